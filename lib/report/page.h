// A report as one page: built like a table of contents, written as HTML that needs nothing but itself, or as Markdown.
//
//   Page page("demo-llama in 4 bits", "what adze compress did");
//   page.section("Sizes").text("...").figure(bars, "The store holds all tensors.");
//   write_file(file, page.html());
//
// The HTML loads nothing, and its content security policy keeps it so; it is complete without scripts, which only make
// tooltips nicer; it has colours for light and for dark screens. Every text may come from outside and is escaped. The
// same page gives the same bytes.
#pragma once

#include <deque>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "report/chart/picture.h"
#include "report/table.h"

namespace adze {

/// One of the few numbers that matter most.
struct Tile {
  std::string name, value;
  std::string note = {};
};

struct Fact {
  std::string name, value;
};

/// A passage of text in parts, each shaded by how much it matters: an exemplar.
struct Excerpt {
  struct Part {
    std::string text;
    double weight = 0;         ///< 0: not shaded, 1: most
    std::string tooltip = {};  ///< shown when it is pointed at
  };

  std::string title;
  std::vector<Part> parts;
  std::string note = {};
};

/// What a section may hold.
namespace content {

struct Paragraph {
  std::string text;
};
struct Tiles {
  std::vector<Tile> tiles;
};
struct Facts {
  std::vector<Fact> facts;
};
struct TableOf {
  Table table;
  std::string caption;
};
struct Warnings {
  std::vector<std::string> warnings;
};
struct Figure {
  Picture picture;
  Table data;
  std::string caption;
};
struct Excerpts {
  std::vector<Excerpt> excerpts;
};
/// Shown letter by letter, folded away.
struct File {
  std::string name, text;
};

}  // namespace content

using Content = std::variant<content::Paragraph, content::Tiles, content::Facts, content::TableOf, content::Warnings,
                             content::Figure, content::Excerpts, content::File>;

class Section {
 public:
  explicit Section(std::string title) : title_(std::move(title)) {}

  Section& text(std::string paragraph) { return add(content::Paragraph{std::move(paragraph)}); }
  Section& tiles(std::vector<Tile> tiles) { return add(content::Tiles{std::move(tiles)}); }
  Section& facts(std::vector<Fact> facts) { return add(content::Facts{std::move(facts)}); }
  Section& table(Table table, std::string caption = "") {
    return add(content::TableOf{std::move(table), std::move(caption)});
  }
  Section& warnings(std::vector<std::string> warnings) { return add(content::Warnings{std::move(warnings)}); }
  /// A chart of report/chart/: its picture, with its data as a table and as CSV.
  template <typename Chart>
  Section& figure(const Chart& chart, std::string caption) {
    return add(content::Figure{chart.picture(), chart.table(), std::move(caption)});
  }
  Section& excerpts(std::vector<Excerpt> excerpts) { return add(content::Excerpts{std::move(excerpts)}); }
  Section& file(std::string name, std::string text) { return add(content::File{std::move(name), std::move(text)}); }

  const std::string& title() const { return title_; }
  const std::vector<Content>& contents() const { return contents_; }

 private:
  Section& add(Content content) {
    contents_.push_back(std::move(content));
    return *this;
  }

  std::string title_;
  std::vector<Content> contents_;
};

class Page {
 public:
  /// `footer`: a last line, such as what made the page.
  Page(std::string title, std::string subtitle, std::string footer = "")
      : title_(std::move(title)), subtitle_(std::move(subtitle)), footer_(std::move(footer)) {}

  /// A new section at the end; the reference stays valid.
  Section& section(std::string title) { return sections_.emplace_back(std::move(title)); }

  std::string html() const;
  /// Pictures become the tables behind them.
  std::string markdown() const;

 private:
  std::string title_, subtitle_, footer_;
  std::deque<Section> sections_;
};

}  // namespace adze
