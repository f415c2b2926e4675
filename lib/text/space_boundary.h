// Cuts text of character-level BPE before "▁" where that provably changes nothing, so that the words of a text are
// looked up in a cache instead of being merged in one list as long as the text.
#pragma once

#include <memory>
#include <string_view>

#include "text/model.h"
#include "text/splitter.h"

namespace adze {

inline constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // U+2581

/// Null when no cut is safe whatever the text.
///
/// Why it is exact. A merge that crosses the cut joins a symbol that ends before it with one that starts with "▁".
/// Texts of symbols are the source characters they cover, so such a rule (l, r) has an r that starts with "▁" and an l
/// that ends with the character before the cut. Where no rule has that pair of characters, no symbol ever covers the
/// cut, and the merges on one side neither enable nor disable any on the other: order by (rank, position) restricted
/// to a side is that side's own order. Characters outside the vocabulary stand for byte or unknown tokens; no cut is
/// made when a rule could join these with "▁", when they are dropped (which makes others neighbours), or when whole
/// texts are looked up (ignore_merges).
std::unique_ptr<const Splitter> make_space_boundary_splitter(const BpeModel& model);

}  // namespace adze
