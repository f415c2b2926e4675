// A part of a matrix's values, the others zero: what DARE (Yu et al. 2023) stores of the difference between two
// matrices. Each value is dropped with a probability p. Which ones are kept follows from a seed and a name, so that no
// place is stored: value (r, c) is kept when draw number r * columns + c of RandomStream(seed, name) is at least p.
//
// Payload: a factor, f32; then what is kept, f16, row by row. Value: the product of both.
//
// Refused: probabilities above 99.9 % and payloads that hold less than such a mask would leave, so that a few bytes do
// not stand for a matrix of any size.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "grid/compressed_tensor.h"
#include "grid/sparse/pattern.h"

namespace adze {

/// Which values of a matrix are kept.
class DropMask {
 public:
  static constexpr double kMostProbability = 0.999;
  static constexpr std::uint64_t kSeedEnd = 1'000'000'000'000'000'000;  ///< seeds are below: 18 digits

  /// The probability is kept in millionths. Throws bad_recipe for one outside 0 to kMostProbability, for a seed that is
  /// too large, and for a name that is empty or would end a format's name early.
  DropMask(double probability, std::uint64_t seed, std::string name);

  double probability() const;
  std::uint64_t seed() const { return seed_; }
  const std::string& name() const { return name_; }
  /// "90% seed 7", as formats have it.
  std::string text() const;

  /// Calls body(column) for what is kept of a row.
  template <class Body>
  void for_kept(Shape shape, std::size_t row, Body&& body) const {
    RandomStream random(seed_, name_);
    random.skip(static_cast<std::uint64_t>(row) * shape.cols);
    const double least = probability();
    for (std::size_t c = 0; c < shape.cols; ++c)
      if (random.uniform() >= least) body(c);
  }
  std::size_t kept_of_row(Shape shape, std::size_t row) const;
  std::uint64_t kept(Shape shape) const;

  bool operator==(const DropMask&) const = default;

 private:
  SparsityPattern part_;  ///< that is dropped: knows how percentages are written
  std::uint64_t seed_;
  std::string name_;
};

struct DroppedFormat {
  DropMask mask;
  std::uint64_t kept = 0;  ///< values

  /// Exact bytes. Throws bad_data for a shape of which a mask would keep far more.
  std::uint64_t bytes(Shape shape) const;
};

/// "dropped 90% seed 7 keeps 1234 of layers.0.mlp.up_proj".
std::string dropped_format(const DroppedFormat& format);
/// The inverse; nothing when the format is another kind's. Throws bad_data for one that is malformed.
std::optional<DroppedFormat> parse_dropped_format(const std::string& format);

class DroppedTensor final : public CompressedTensor {
 public:
  /// Throws bad_data when the payload's size is not what the format says, or the mask keeps another number of values.
  DroppedTensor(DroppedFormat format, Shape shape, std::vector<std::byte> payload);
  /// What the mask keeps of `values`, in f16. Throws bad_data, naming the place, for a value that does not fit.
  static DroppedTensor of_values(DropMask mask, ConstViewF values, float factor);

  float factor() const;
  /// The same kept values times another factor.
  DroppedTensor with_factor(float factor) const;

  Shape shape() const override { return shape_; }
  std::uint64_t bytes() const override { return payload_.size(); }
  std::uint64_t multiplications() const override { return format_.kept; }
  std::string format() const override { return dropped_format(format_); }
  void decode_rows(std::size_t first, std::size_t count, std::span<float> out) const override;
  std::span<const std::byte> payload() const override { return payload_; }

 private:
  DroppedFormat format_;
  Shape shape_;
  std::vector<std::byte> payload_;
  std::vector<std::uint64_t> before_;  ///< kept values of the rows before each
};

}  // namespace adze
