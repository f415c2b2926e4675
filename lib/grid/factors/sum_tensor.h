// A sum of two stored matrices of one shape: a quantized (or sparse) base and what a low rank adds to it. The payload
// is that of the first, then that of the second.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grid/compressed_tensor.h"

namespace adze {

class SumTensor final : public CompressedTensor {
 public:
  using Part = std::shared_ptr<const CompressedTensor>;

  /// Throws bad_data unless the shapes agree.
  SumTensor(Part base, Part correction);

  const CompressedTensor& base() const { return *base_; }
  const CompressedTensor& correction() const { return *correction_; }

  Shape shape() const override { return base_->shape(); }
  std::uint64_t bytes() const override { return payload_.size(); }
  std::uint64_t multiplications() const override { return base_->multiplications() + correction_->multiplications(); }
  std::string format() const override;
  void decode_rows(std::size_t first, std::size_t count, std::span<float> out) const override;
  std::span<const std::byte> payload() const override { return payload_; }

 private:
  Part base_, correction_;
  std::vector<std::byte> payload_;
};

struct SumFormat {
  std::string base, correction;
};

/// "int4 g128 sym + rank 32 [f16] [f16]".
std::string sum_format(const SumFormat& parts);
/// The inverse; nothing when the format is not that of a sum.
std::optional<SumFormat> parse_sum_format(const std::string& format);

}  // namespace adze
