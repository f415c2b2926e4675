// Sums for scale searches: sixteen candidate scales are tried at once, one in each lane, so that no sum crosses lanes
// and the answer does not depend on the vector width.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace adze {

constexpr std::size_t kCandidates = 16;

/// One number for each candidate.
struct alignas(64) CandidateArray : std::array<float, kCandidates> {};

/// Candidate c codes x as l = clamp(round(x * inverse[c] - shift[c]), lo[c], hi[c]): value = (l + shift) / inverse.
struct Candidates {
  CandidateArray inverse{};
  CandidateArray shift{};
  CandidateArray lo{};
  CandidateArray hi{};
};

/// Weighted sums over codes l and residuals e = x * inverse - shift - l, both in units of the step: ee / inverse^2 is
/// the squared error, and as residuals are small, sums over them lose no digits to cancellation.
struct CandidateMoments {
  CandidateArray l;   ///< sum w l
  CandidateArray ll;  ///< sum w l^2
  CandidateArray e;   ///< sum w e
  CandidateArray el;  ///< sum w e l
  CandidateArray ee;  ///< sum w e^2
};

/// x, weight: equally long. shift, l and e are left out (as zeros) unless `with_shift`.
CandidateMoments candidate_moments(std::span<const float> x, std::span<const float> weight,
                                   const Candidates& candidates, bool with_shift);

/// The same where l is the level nearest to x * inverse, ties to the upper; ll, el and ee only. levels: ascending, 1 to
/// 16.
CandidateMoments level_moments(std::span<const float> x, std::span<const float> weight, const CandidateArray& inverse,
                               std::span<const float> levels);

}  // namespace adze
