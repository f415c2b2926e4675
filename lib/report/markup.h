// Foreign text made safe for what a report is written in. Names of tensors and passages of texts come from outside:
// each function here takes any bytes and gives well-formed UTF-8 that cannot leave its place in the document. Bytes
// that are no UTF-8, and control characters, become U+FFFD.
#pragma once

#include <string>
#include <string_view>

namespace adze {

/// For the text and the quoted attributes of HTML, SVG and XML.
std::string html_escaped(std::string_view text);
/// For a line or a table's cell of Markdown: shown as it is, on one line, with line ends as spaces.
std::string markdown_escaped(std::string_view text);
/// A block of Markdown that shows `text` as it is, in a fence that is longer than any in it.
std::string markdown_fenced(std::string_view text);
/// A field of RFC 4180. A text that a spreadsheet would take for a formula gets an apostrophe in front.
std::string csv_field(std::string_view text);
/// "data:TYPE;charset=utf-8,...": a file inside a link.
std::string data_uri(std::string_view media_type, std::string_view text);
/// The first `characters` of a text, the last of them an ellipsis where it is longer.
std::string shortened(std::string_view text, std::size_t characters);
/// Code points of any bytes.
std::size_t characters_in(std::string_view text);

}  // namespace adze
