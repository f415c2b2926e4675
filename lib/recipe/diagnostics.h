// Every problem of one file, collected so that one run reports them all, each with its line and a caret:
//
//   recipes/x.yaml:7:12: unknown key 'grup'; did you mean 'group'?
//       w4: { grid: int4, grup: 128 }
//                         ^
//
// Layers above add their own findings (an unknown grid, a rule that matches nothing) to a Diagnostics over the same
// Source and get the same format. Nothing is printed here.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "recipe/source.h"

namespace adze {

struct Diagnostic {
  std::string message;
  Mark where;  ///< nowhere: the message is about the file as a whole
};

class Diagnostics {
 public:
  explicit Diagnostics(std::shared_ptr<const Source> source = nullptr) : source_(std::move(source)) {}

  void add(Mark where, std::string message);

  template <typename... Args>
  void report(Mark where, fmt::format_string<Args...> format, Args&&... args) {
    add(where, fmt::format(format, std::forward<Args>(args)...));
  }

  bool empty() const { return found_.empty(); }
  /// In the order they were found, at most kMaxKept.
  const std::vector<Diagnostic>& found() const { return found_; }
  const std::shared_ptr<const Source>& source() const { return source_; }

  /// "origin:line:column: message" with the source line and a caret; of a source without a name the message and these.
  std::string format(const Diagnostic& diagnostic) const;
  /// All of them in the order of the file, one after the other; beyond the first kMaxShown their number only.
  std::string format_all() const;
  /// Throws Error(bad_recipe) with format_all() unless empty().
  void throw_if_any() const;

  static constexpr std::size_t kMaxKept = 1000;
  static constexpr std::size_t kMaxShown = 50;

 private:
  std::shared_ptr<const Source> source_;
  std::vector<Diagnostic> found_;
  std::size_t dropped_ = 0;
};

}  // namespace adze
