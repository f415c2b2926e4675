#include "report/table.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "report/markup.h"

namespace adze {
namespace {

constexpr std::size_t kLongCell = 48;  // characters: longer texts go over several lines of a page

std::string padded(const std::string& text, std::size_t width, Align align) {
  const std::string space(width - characters_in(text), ' ');
  return align == Align::left ? text + space : space + text;
}

/// "12 more rows", or "" when none is left out.
std::string left_out(std::size_t rows, std::size_t most) {
  if (rows <= most) return "";
  return fmt::format("{} more {}", rows - most, rows - most == 1 ? "row" : "rows");
}

}  // namespace

void Table::add_row(std::vector<std::string> cells) {
  if (cells.size() > columns_.size())
    fail(ErrorKind::internal, "{} cells in a table of {} columns", cells.size(), columns_.size());
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    std::size_t width = characters_in(columns_[c].title);
    for (const auto& row : rows_) width = std::max(width, characters_in(row[c]));
    widths.push_back(width);
  }
  std::string text;
  const auto add_line = [&](const auto& cell_of) {
    std::string line;
    for (std::size_t c = 0; c < columns_.size(); ++c) line += (c > 0 ? "  " : "") + cell_of(c);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add_line([&](std::size_t c) { return padded(columns_[c].title, widths[c], columns_[c].align); });
  add_line([&](std::size_t c) { return std::string(widths[c], '-'); });
  for (const auto& row : rows_) add_line([&](std::size_t c) { return padded(row[c], widths[c], columns_[c].align); });
  return text;
}

std::string Table::csv() const {
  std::string text;
  const auto add_line = [&](const auto& cell_of) {
    for (std::size_t c = 0; c < columns_.size(); ++c) text += (c > 0 ? "," : "") + csv_field(cell_of(c));
    text += "\r\n";
  };
  add_line([&](std::size_t c) { return columns_[c].title; });
  for (const auto& row : rows_) add_line([&](std::size_t c) { return row[c]; });
  return text;
}

std::string Table::html(std::size_t most) const {
  const auto attribute = [&](std::size_t c, const std::string& cell) {
    if (columns_[c].align == Align::right) return " class=\"n\"";
    return characters_in(cell) > kLongCell ? " class=\"long\"" : "";
  };
  std::string text = "<table><thead><tr>";
  for (std::size_t c = 0; c < columns_.size(); ++c)
    text +=
        fmt::format("<th scope=\"col\"{}>{}</th>", attribute(c, columns_[c].title), html_escaped(columns_[c].title));
  text += "</tr></thead>\n<tbody>\n";
  for (std::size_t r = 0; r < std::min(most, rows_.size()); ++r) {
    text += "<tr>";
    for (std::size_t c = 0; c < columns_.size(); ++c)
      text += fmt::format("<td{}>{}</td>", attribute(c, rows_[r][c]), html_escaped(rows_[r][c]));
    text += "</tr>\n";
  }
  text += "</tbody></table>\n";
  if (const std::string more = left_out(rows_.size(), most); !more.empty())
    text += fmt::format("<p class=\"note\">{}.</p>\n", more);
  return text;
}

std::string Table::markdown(std::size_t most) const {
  std::string text;
  const auto add_line = [&](const auto& cell_of) {
    text += "|";
    for (std::size_t c = 0; c < columns_.size(); ++c) text += " " + cell_of(c) + " |";
    text += "\n";
  };
  add_line([&](std::size_t c) { return markdown_escaped(columns_[c].title); });
  add_line([&](std::size_t c) -> std::string { return columns_[c].align == Align::right ? "---:" : "---"; });
  for (std::size_t r = 0; r < std::min(most, rows_.size()); ++r)
    add_line([&](std::size_t c) { return markdown_escaped(rows_[r][c]); });
  if (const std::string more = left_out(rows_.size(), most); !more.empty()) text += fmt::format("\n{}.\n", more);
  return text;
}

}  // namespace adze
