// The style sheet and the script of every page: constants, so that a page can be written as bytes that never change.
#pragma once

#include <string>
#include <string_view>

namespace adze {

/// Rules of the page's parts; colours are those of page_colours().
std::string_view page_style();
/// Shows the <title> of a mark beside the pointer. Asks for nothing, and changes nothing else.
std::string_view page_script();
/// What the page may do: run that script, by its hash, and style itself; nothing else, and nothing over a network.
std::string_view page_policy();

}  // namespace adze
