// A product of two stored matrices, left [rows x rank] times right [rank x cols]: low-rank factors, or coefficients (a
// sparse left) and a dictionary. The payload is that of the left, then that of the right.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grid/compressed_tensor.h"

namespace adze {

class ProductTensor final : public CompressedTensor {
 public:
  using Part = std::shared_ptr<const CompressedTensor>;

  /// Throws bad_data unless the inner sizes agree.
  ProductTensor(Part left, Part right);

  const CompressedTensor& left() const { return *left_; }
  const CompressedTensor& right() const { return *right_; }
  const Part& right_part() const { return right_; }
  std::size_t rank() const { return left_->shape().cols; }

  Shape shape() const override { return {left_->shape().rows, right_->shape().cols}; }
  std::uint64_t bytes() const override { return payload_.size(); }
  std::uint64_t multiplications() const override { return left_->multiplications() + right_->multiplications(); }
  std::string format() const override;
  /// In single precision, in tiles of rows whose place does not depend on which rows are asked for: a row has the same
  /// bits however it is read. Every call decodes the right factor.
  void decode_rows(std::size_t first, std::size_t count, std::span<float> out) const override;
  std::span<const std::byte> payload() const override { return payload_; }

 private:
  Part left_, right_;
  std::vector<std::byte> payload_;
};

struct ProductFormat {
  std::size_t rank = 0;
  std::string left, right;

  /// Of the parts of a matrix of that shape. Throws bad_data for a rank beyond both of its sides.
  Shape left_shape(Shape whole) const;
  Shape right_shape(Shape whole) const;
};

/// "rank 96 [f16] [f16]".
std::string product_format(const ProductFormat& parts);
/// The inverse; nothing when the format is not that of a product. Throws bad_data for one that is malformed.
std::optional<ProductFormat> parse_product_format(const std::string& format);

}  // namespace adze
