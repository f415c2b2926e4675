#include "recipe/diagnostics.h"

#include <algorithm>

#include "base/error.h"

namespace adze {

void Diagnostics::add(Mark where, std::string message) {
  if (found_.size() < kMaxKept)
    found_.push_back({std::move(message), where});
  else
    ++dropped_;
}

std::string Diagnostics::format(const Diagnostic& diagnostic) const {
  if (!source_) return diagnostic.message;
  if (!diagnostic.where.known()) return fmt::format("{}: {}", source_->origin(), diagnostic.message);
  const Place place = source_->place_of(diagnostic.where);
  const std::string excerpt = source_->excerpt(diagnostic.where);
  if (source_->origin().empty()) return diagnostic.message + (excerpt.empty() ? "" : "\n") + excerpt;
  return fmt::format("{}:{}:{}: {}{}{}", source_->origin(), place.line, place.column, diagnostic.message,
                     excerpt.empty() ? "" : "\n", excerpt);
}

std::string Diagnostics::format_all() const {
  std::vector<Diagnostic> sorted = found_;
  std::ranges::stable_sort(sorted, {}, [](const Diagnostic& d) { return d.where.offset; });
  const std::size_t shown = std::min(sorted.size(), kMaxShown);
  std::string text;
  for (std::size_t i = 0; i < shown; ++i) text += fmt::format("{}{}", i > 0 ? "\n" : "", format(sorted[i]));
  const std::size_t more = sorted.size() - shown + dropped_;
  if (more > 0) text += fmt::format("\n... and {} more problems", more);
  return text;
}

void Diagnostics::throw_if_any() const {
  if (!empty()) throw Error(ErrorKind::bad_recipe, format_all());
}

}  // namespace adze
