#include "grid/delta/dropped_tensor.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string_view>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"

namespace adze {
namespace {

constexpr std::string_view kPrefix = "dropped ", kSeed = " seed ", kKeeps = " keeps ", kOf = " of ";
constexpr std::uint64_t kMostPerKept = 4000, kFewKept = 16;  // four times what 99.9 % leave of each
constexpr std::size_t kValueBytes = sizeof(std::uint16_t);

/// Takes what stands before `word`, and the word.
std::string_view take_until(std::string_view& rest, std::string_view word) {
  const std::size_t at = rest.find(word);
  if (at == std::string_view::npos) fail(ErrorKind::bad_data, "'{}' is missing", word);
  const std::string_view before = rest.substr(0, at);
  rest.remove_prefix(at + word.size());
  return before;
}

double checked_probability(double probability) {
  if (!(probability >= 0 && probability <= DropMask::kMostProbability))
    fail(ErrorKind::bad_recipe, "values are dropped with a probability from 0 to {}, not {}",
         DropMask::kMostProbability, probability);
  return probability;
}

std::uint64_t number_of(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) fail(ErrorKind::bad_data, "'{}' is no number", text);
  return value;
}

DroppedFormat parse(std::string_view rest) {
  const SparsityPattern part = SparsityPattern::parse(take_until(rest, kSeed));
  if (part.kind() != PatternKind::unstructured) fail(ErrorKind::bad_data, "'{}' is no probability", part.text());
  const double probability =
      static_cast<double>(part.pruned_of(SparsityPattern::kWhole)) / static_cast<double>(SparsityPattern::kWhole);
  const std::uint64_t seed = number_of(take_until(rest, kKeeps));
  const std::uint64_t kept = number_of(take_until(rest, kOf));
  return {DropMask(probability, seed, std::string(rest)), kept};
}

}  // namespace

DropMask::DropMask(double probability, std::uint64_t seed, std::string name)
    : part_(SparsityPattern::unstructured(checked_probability(probability))), seed_(seed), name_(std::move(name)) {
  if (seed >= kSeedEnd) fail(ErrorKind::bad_recipe, "seed {}: at most 18 digits", seed);
  if (name_.empty() || name_.find_first_of(" +[]") != std::string::npos)
    fail(ErrorKind::bad_recipe, "'{}' is no name of dropped values: without spaces and brackets", name_);
}

double DropMask::probability() const {
  return static_cast<double>(part_.pruned_of(SparsityPattern::kWhole)) / static_cast<double>(SparsityPattern::kWhole);
}

std::string DropMask::text() const { return fmt::format("{}{}{}", part_.text(), kSeed, seed_); }

std::size_t DropMask::kept_of_row(Shape shape, std::size_t row) const {
  std::size_t count = 0;
  for_kept(shape, row, [&](std::size_t) { ++count; });
  return count;
}

std::uint64_t DropMask::kept(Shape shape) const {
  std::vector<std::uint64_t> of_row(shape.rows);
  parallel_for(shape.rows, [&](std::size_t r) { of_row[r] = kept_of_row(shape, r); });
  return std::accumulate(of_row.begin(), of_row.end(), std::uint64_t{0});
}

std::uint64_t DroppedFormat::bytes(Shape shape) const {
  const std::uint64_t count = checked_mul(shape.rows, shape.cols);
  if (shape.cols == 0 || kept > count || count / kMostPerKept > checked_add(kept, kFewKept))
    fail(ErrorKind::bad_data, "{} x {} weights of which '{}' keeps {}", shape.rows, shape.cols, mask.text(), kept);
  return checked_add(sizeof(float), checked_mul(kept, kValueBytes));
}

std::string dropped_format(const DroppedFormat& format) {
  return fmt::format("{}{}{}{}{}{}", kPrefix, format.mask.text(), kKeeps, format.kept, kOf, format.mask.name());
}

std::optional<DroppedFormat> parse_dropped_format(const std::string& format) {
  if (!format.starts_with(kPrefix)) return std::nullopt;
  try {
    DroppedFormat parsed = parse(std::string_view(format).substr(kPrefix.size()));
    if (dropped_format(parsed) == format) return parsed;
  } catch (const Error& error) {  // numbers that make no sense are bad_recipe elsewhere
    fail(ErrorKind::bad_data, "unknown format '{}': {}", format, error.message());
  }
  fail(ErrorKind::bad_data, "unknown format '{}'", format);
}

DroppedTensor::DroppedTensor(DroppedFormat format, Shape shape, std::vector<std::byte> payload)
    : format_(std::move(format)), shape_(shape), payload_(std::move(payload)) {
  if (payload_.size() != format_.bytes(shape))
    fail(ErrorKind::bad_data, "{} x {} weights in '{}' take {} bytes, not {}", shape.rows, shape.cols,
         dropped_format(format_), format_.bytes(shape), payload_.size());
  before_.resize(shape.rows);
  parallel_for(shape.rows, [&](std::size_t r) { before_[r] = format_.mask.kept_of_row(shape_, r); });
  const std::uint64_t kept = std::accumulate(before_.begin(), before_.end(), std::uint64_t{0});
  if (kept != format_.kept)
    fail(ErrorKind::bad_data, "{} values of a dropped delta where its mask keeps {}", format_.kept, kept);
  std::exclusive_scan(before_.begin(), before_.end(), before_.begin(), std::uint64_t{0});
}

DroppedTensor DroppedTensor::of_values(DropMask mask, ConstViewF values, float factor) {
  std::vector<std::uint16_t> kept;
  for (std::size_t r = 0; r < values.rows(); ++r)
    mask.for_kept(values.shape(), r, [&](std::size_t c) {
      kept.push_back(float_to_f16(values(r, c)));
      if (!std::isfinite(f16_to_float(kept.back())))
        fail(ErrorKind::bad_data, "row {}, column {}: a value of {} does not fit f16", r, c, values(r, c));
    });
  std::vector<std::byte> payload(sizeof factor + kept.size() * kValueBytes);
  std::memcpy(payload.data(), &factor, sizeof factor);
  std::memcpy(payload.data() + sizeof factor, kept.data(), kept.size() * kValueBytes);
  return {{std::move(mask), kept.size()}, values.shape(), std::move(payload)};
}

float DroppedTensor::factor() const {
  float factor = 0;
  std::memcpy(&factor, payload_.data(), sizeof factor);
  return factor;
}

DroppedTensor DroppedTensor::with_factor(float factor) const {
  DroppedTensor other = *this;
  std::memcpy(other.payload_.data(), &factor, sizeof factor);
  return other;
}

void DroppedTensor::decode_rows(std::size_t first, std::size_t count, std::span<float> out) const {
  const float factor = this->factor();
  std::ranges::fill(out.first(count * shape_.cols), 0.0f);
  parallel_for(count, [&](std::size_t r) {
    const std::byte* next = payload_.data() + sizeof factor + before_[first + r] * kValueBytes;
    format_.mask.for_kept(shape_, first + r, [&](std::size_t c) {
      std::uint16_t value = 0;
      std::memcpy(&value, next, sizeof value);
      next += sizeof value;
      out[r * shape_.cols + c] = factor * f16_to_float(value);
    });
  });
}

}  // namespace adze
