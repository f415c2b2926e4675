#include "solve/masks/least.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "base/parallel.h"

namespace adze {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 16;
constexpr int kBucketBits = 12;  // the exponent and four bits of the mantissa
constexpr std::size_t kBuckets = std::size_t{1} << kBucketBits;

/// Order-preserving: bits of floats that are not negative compare as the floats do.
std::size_t bucket_of(float score) { return std::bit_cast<std::uint32_t>(score) >> (31 - kBucketBits); }

using Histogram = std::array<std::uint32_t, kBuckets>;

/// find_least of few scores, which are rearranged.
LeastScores find_among(std::vector<float>& scores, std::uint64_t count) {
  const auto last = scores.begin() + static_cast<std::ptrdiff_t>(count - 1);
  std::nth_element(scores.begin(), last, scores.end());
  const auto less = std::count_if(scores.begin(), last, [&](float score) { return score < *last; });
  return {*last, count - static_cast<std::uint64_t>(less)};
}

}  // namespace

void make_comparable(std::span<float> scores) {
  for (float& score : scores)
    if (!(score > 0)) score = std::isnan(score) ? std::numeric_limits<float>::infinity() : 0.0f;  // -0 is 0
}

LeastScores find_least(std::span<const float> scores, std::uint64_t count) {
  assert(count > 0 && count <= scores.size());
  std::vector<float> members;
  if (scores.size() <= kBuckets) {
    members.assign(scores.begin(), scores.end());
    return find_among(members, count);
  }
  const std::size_t pieces = divide_up(scores.size(), kPiece);
  const auto piece = [&](std::size_t p) {
    return scores.subspan(p * kPiece, std::min(kPiece, scores.size() - p * kPiece));
  };
  std::vector<Histogram> histograms(pieces);
  parallel_for(pieces, [&](std::size_t p) {
    for (const float score : piece(p)) ++histograms[p][bucket_of(score)];
  });
  std::uint64_t below = 0;
  std::size_t bucket = 0;
  for (;; ++bucket) {
    std::uint64_t in_bucket = 0;
    for (const Histogram& histogram : histograms) in_bucket += histogram[bucket];
    if (below + in_bucket >= count) break;
    below += in_bucket;
  }
  std::vector<std::vector<float>> found(pieces);
  parallel_for(pieces, [&](std::size_t p) {
    for (const float score : piece(p))
      if (bucket_of(score) == bucket) found[p].push_back(score);
  });
  for (const std::vector<float>& part : found) members.insert(members.end(), part.begin(), part.end());
  return find_among(members, count - below);
}

}  // namespace adze
