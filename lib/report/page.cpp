#include "report/page.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "report/chart/palette.h"
#include "report/markup.h"
#include "report/page_assets.h"

namespace adze {
namespace {

// Of a table; all of it is in the CSV.
constexpr std::size_t kMostRows = 400;
constexpr std::size_t kMostMarkdownRows = 100;
constexpr std::size_t kWeightSteps = 4;  ///< shades of an excerpt's parts

std::string csv_link(const std::string& name, const Table& table) {
  return fmt::format("<a download=\"{}.csv\" href=\"{}\">Download as CSV</a>", name, data_uri("text/csv", table.csv()));
}

/// A box of its own that scrolls, so that what is wide does not widen the page.
std::string scrolling(const std::string& name, const std::string& content) {
  return fmt::format("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">\n{}</div>\n",
                     html_escaped(name), content);
}

/// Contents as HTML. Figures and tables are numbered in the order of the page.
class HtmlWriter {
 public:
  std::string operator()(const content::Paragraph& paragraph) const {
    return fmt::format("<p>{}</p>\n", html_escaped(paragraph.text));
  }

  std::string operator()(const content::Tiles& tiles) const {
    std::string text = "<dl class=\"tiles\">\n";
    for (const Tile& tile : tiles.tiles) {
      text +=
          fmt::format("<div><dt>{}</dt><dd class=\"value\">{}</dd>", html_escaped(tile.name), html_escaped(tile.value));
      if (!tile.note.empty()) text += fmt::format("<dd class=\"note\">{}</dd>", html_escaped(tile.note));
      text += "</div>\n";
    }
    return text + "</dl>\n";
  }

  std::string operator()(const content::Facts& facts) const {
    std::string text = "<dl class=\"facts\">\n";
    for (const Fact& fact : facts.facts)
      text += fmt::format("<dt>{}</dt><dd>{}</dd>\n", html_escaped(fact.name), html_escaped(fact.value));
    return text + "</dl>\n";
  }

  std::string operator()(const content::TableOf& table) {
    const std::string name = fmt::format("table-{}", ++tables_);
    std::string text = scrolling(table.caption.empty() ? name : table.caption, table.table.html(kMostRows));
    if (!table.caption.empty()) text = fmt::format("<p class=\"caption\">{}</p>\n", html_escaped(table.caption)) + text;
    if (table.table.rows().size() > kMostRows) text += fmt::format("<p>{}</p>\n", csv_link(name, table.table));
    return text;
  }

  std::string operator()(const content::Warnings& warnings) const {
    std::string text = "<ul class=\"warnings\">\n";
    for (const std::string& warning : warnings.warnings) text += fmt::format("<li>{}</li>\n", html_escaped(warning));
    return text + "</ul>\n";
  }

  std::string operator()(const content::Figure& figure) {
    const std::string name = fmt::format("figure-{}", ++figures_);
    const std::string& title = figure.picture.title;
    return fmt::format(
        "<figure id=\"{0}\">\n<h3>{1}</h3>\n<p class=\"caption\">{2}</p>\n{3}"
        "<details><summary>Data</summary>\n<p>{4}</p>\n{5}</details>\n</figure>\n",
        name, html_escaped(title), html_escaped(figure.caption), scrolling(title, figure.picture.inline_svg()),
        csv_link(name, figure.data), scrolling("Data: " + title, figure.data.html(kMostRows)));
  }

  std::string operator()(const content::Excerpts& excerpts) const {
    std::string text;
    for (const Excerpt& excerpt : excerpts.excerpts) {
      text += fmt::format("<h3>{}</h3>\n<div class=\"excerpt\">", html_escaped(excerpt.title));
      for (const Excerpt::Part& part : excerpt.parts) text += part_text(part);
      text += "</div>\n";
      if (!excerpt.note.empty()) text += fmt::format("<p class=\"note\">{}</p>\n", html_escaped(excerpt.note));
    }
    return text;
  }

  std::string operator()(const content::File& file) const {
    return fmt::format("<details><summary>{}</summary>\n<pre>{}</pre>\n</details>\n", html_escaped(file.name),
                       html_escaped(file.text));
  }

 private:
  static std::string part_text(const Excerpt::Part& part) {
    const double weight = std::isfinite(part.weight) ? std::clamp(part.weight, 0.0, 1.0) : 0;
    const auto step = static_cast<std::size_t>(std::ceil(weight * kWeightSteps));
    if (step == 0 && part.tooltip.empty()) return html_escaped(part.text);
    return fmt::format("<mark class=\"w{}\" title=\"{}\">{}</mark>", step, html_escaped(part.tooltip),
                       html_escaped(part.text));
  }

  std::size_t figures_ = 0, tables_ = 0;
};

struct MarkdownWriter {
  static std::string paragraph(const std::string& text) { return text.empty() ? "" : markdown_escaped(text) + "\n\n"; }

  std::string operator()(const content::Paragraph& one) const { return paragraph(one.text); }

  std::string operator()(const content::Tiles& tiles) const {
    Table table({{"", Align::left}, {"", Align::left}, {"", Align::left}});
    for (const Tile& tile : tiles.tiles) table.add_row({tile.name, tile.value, tile.note});
    return table.markdown(kMostMarkdownRows) + "\n";
  }

  std::string operator()(const content::Facts& facts) const {
    std::string text;
    for (const Fact& fact : facts.facts)
      text += fmt::format("- **{}**: {}\n", markdown_escaped(fact.name), markdown_escaped(fact.value));
    return text + "\n";
  }

  std::string operator()(const content::TableOf& table) const {
    return paragraph(table.caption) + table.table.markdown(kMostMarkdownRows) + "\n";
  }

  std::string operator()(const content::Warnings& warnings) const {
    std::string text;
    for (const std::string& warning : warnings.warnings)
      text += fmt::format("> **Warning:** {}\n\n", markdown_escaped(warning));
    return text;
  }

  std::string operator()(const content::Figure& figure) const {
    return fmt::format("### {}\n\n{}{}\n", markdown_escaped(figure.picture.title), paragraph(figure.caption),
                       figure.data.markdown(kMostMarkdownRows));
  }

  std::string operator()(const content::Excerpts& excerpts) const {
    std::string text;
    for (const Excerpt& excerpt : excerpts.excerpts) {
      std::string whole;
      for (const Excerpt::Part& part : excerpt.parts) whole += part.text;
      text += fmt::format("### {}\n\n{}\n{}", markdown_escaped(excerpt.title), markdown_fenced(whole),
                          paragraph(excerpt.note));
    }
    return text;
  }

  std::string operator()(const content::File& file) const {
    return fmt::format("### {}\n\n{}\n", markdown_escaped(file.name), markdown_fenced(file.text));
  }
};

}  // namespace

std::string Page::html() const {
  std::string text = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
      "<meta name=\"referrer\" content=\"no-referrer\">\n<link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n"
      "<style>\n{}{}</style>\n</head>\n<body>\n",
      page_policy(), html_escaped(title_), page_colours(), page_style());
  text += fmt::format(
      "<header>\n<h1>{}</h1>\n<p class=\"subtitle\">{}</p>\n</header>\n<nav aria-label=\"Sections\">\n<ol>\n",
      html_escaped(title_), html_escaped(subtitle_));
  for (std::size_t s = 0; s < sections_.size(); ++s)
    text += fmt::format("<li><a href=\"#section-{}\">{}</a></li>\n", s + 1, html_escaped(sections_[s].title()));
  text += "</ol>\n</nav>\n<main>\n";
  HtmlWriter writer;
  for (std::size_t s = 0; s < sections_.size(); ++s) {
    text += fmt::format("<section id=\"section-{}\">\n<h2>{}</h2>\n", s + 1, html_escaped(sections_[s].title()));
    for (const Content& content : sections_[s].contents()) text += std::visit(writer, content);
    text += "</section>\n";
  }
  return text + fmt::format("</main>\n<footer>{}</footer>\n<script>{}</script>\n</body>\n</html>\n",
                            html_escaped(footer_), page_script());
}

std::string Page::markdown() const {
  std::string text = fmt::format("# {}\n\n{}", markdown_escaped(title_), MarkdownWriter::paragraph(subtitle_));
  for (const Section& section : sections_) {
    text += fmt::format("## {}\n\n", markdown_escaped(section.title()));
    for (const Content& content : section.contents()) text += std::visit(MarkdownWriter{}, content);
  }
  return text + MarkdownWriter::paragraph(footer_);
}

}  // namespace adze
