// Signs times a scale, one of the matrix or one of each row: what BitDelta (Liu et al. 2024) stores of the difference
// between two matrices, one bit a weight.
//
// Payload: the scales, f16, of the matrix or of all rows; then a bit a weight, set where the value is negative, rows
// padded to bytes, lowest bit first.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "grid/compressed_tensor.h"

namespace adze {

enum class SignScope { matrix, row };

/// Exact bytes.
std::uint64_t sign_bytes(SignScope scope, Shape shape);
/// "signs per row".
std::string sign_format(SignScope scope);
/// The inverse; nothing when the format is another.
std::optional<SignScope> parse_sign_format(const std::string& format);

class SignTensor final : public CompressedTensor {
 public:
  /// Throws bad_data when the payload's size is not what scope and shape say.
  SignTensor(SignScope scope, Shape shape, std::vector<std::byte> payload);
  /// The signs of `values`, a zero of either sign as positive. scales: f16, one or one a row.
  static SignTensor of_values(SignScope scope, ConstViewF values, std::span<const std::uint16_t> scales);

  std::uint16_t scale(std::size_t row) const;

  Shape shape() const override { return shape_; }
  std::uint64_t bytes() const override { return payload_.size(); }
  std::string format() const override { return sign_format(scope_); }
  void decode_rows(std::size_t first, std::size_t count, std::span<float> out) const override;
  std::span<const std::byte> payload() const override { return payload_; }

 private:
  SignScope scope_;
  Shape shape_;
  std::vector<std::byte> payload_;
};

}  // namespace adze
