// A factor that a matrix of another block stores: it takes no bytes of its own, and reading it needs that block's file
// (Basis Sharing, ICLR 2025; specification: low-rank, section 7).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "grid/compressed_tensor.h"

namespace adze {

class SharedTensor final : public CompressedTensor {
 public:
  using Part = std::shared_ptr<const CompressedTensor>;

  /// owner: the module whose right factor `factor` is, "layers.0.self_attn.q_proj".
  SharedTensor(std::string owner, Part factor) : owner_(std::move(owner)), factor_(std::move(factor)) {}

  const std::string& owner() const { return owner_; }
  const Part& factor() const { return factor_; }

  Shape shape() const override { return factor_->shape(); }
  std::uint64_t bytes() const override { return 0; }
  std::uint64_t multiplications() const override { return factor_->multiplications(); }
  std::string format() const override;
  void decode_rows(std::size_t first, std::size_t count, std::span<float> out) const override {
    factor_->decode_rows(first, count, out);
  }
  std::span<const std::byte> payload() const override { return {}; }

 private:
  std::string owner_;
  Part factor_;
};

struct SharedFormat {
  std::string owner;   ///< module
  std::string format;  ///< of the factor, as its owner stores it
};

/// "shared layers.0.self_attn.q_proj [f16]".
std::string shared_format(const SharedFormat& parts);
/// The inverse; nothing when the format is not that of a shared factor. Throws bad_data for one that is malformed.
std::optional<SharedFormat> parse_shared_format(const std::string& format);

/// Finds the right factor of a module, of that format and shape. Throws bad_data where it is not what was asked for.
using FindShared = std::function<std::shared_ptr<const CompressedTensor>(const SharedFormat&, Shape)>;

}  // namespace adze
