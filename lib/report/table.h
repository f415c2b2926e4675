// Tables for terminals and documents: columns as wide as their content, numbers to the right. Cells are plain text from
// anywhere; each form makes it safe for where it goes.
#pragma once

#include <cstddef>
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
  const std::vector<Column>& columns() const { return columns_; }
  const std::vector<std::vector<std::string>>& rows() const { return rows_; }

  /// Lines with a header, a rule and two spaces between columns.
  std::string text() const;
  /// All rows after a header (RFC 4180).
  std::string csv() const;
  /// At most `most` rows; what is left out is counted below.
  std::string html(std::size_t most) const;
  std::string markdown(std::size_t most) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace adze
