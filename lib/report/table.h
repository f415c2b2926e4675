// Plain tables for terminals and documents: columns as wide as their content, numbers to the right.
#pragma once

#include <string>
#include <vector>

namespace adze {

enum class Align { left, right };

struct Column {
  std::string title;
  Align align = Align::right;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// One cell per column; missing cells are empty. Throws internal for more.
  void add_row(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  /// Lines with a header, a rule and two spaces between columns.
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace adze
