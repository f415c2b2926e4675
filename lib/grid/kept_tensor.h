// A tensor of any dtype and shape that is passed on byte for byte: what belongs to a model and is no weight matrix.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "base/byte_array.h"
#include "base/checked.h"
#include "base/error.h"
#include "grid/compressed_tensor.h"

namespace adze {

class KeptTensor final : public CompressedTensor {
 public:
  /// payload: whole elements.
  KeptTensor(DType dtype, ByteArray payload) : dtype_(dtype), payload_(std::move(payload)) {}

  /// All elements as one row: the shape is the business of who keeps it.
  Shape shape() const override { return {1, payload_.size() / checked_cast<std::size_t>(bytes_of(dtype_))}; }
  std::uint64_t bytes() const override { return payload_.size(); }
  /// "i64": a dtype.
  std::string format() const override { return std::string(name_of(dtype_)); }
  std::span<const std::byte> payload() const override { return payload_; }
  /// Throws internal: nobody computes with it.
  void decode_rows(std::size_t, std::size_t, std::span<float>) const override {
    fail(ErrorKind::internal, "a tensor that is kept as it is ({}, {} bytes) was to be decoded", format(), bytes());
  }

 private:
  DType dtype_;
  ByteArray payload_;
};

}  // namespace adze
