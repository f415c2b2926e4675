// A factor [rank x cols], rank <= cols, of which `rank` columns, the pivots, are those of the identity: only the other
// columns are stored (PIFA, arXiv 2501.19090; specification: low-rank, 0.5). A product of rank r then takes r^2 numbers
// less than two full factors, without loss.
//
// Payload: the pivots' column numbers, ceil(log2 cols) bits each, least significant first, padded to bytes; then the
// other columns in ascending order, [rank x (cols - rank)], in a format of their own. Row i of the identity belongs to
// pivot i.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grid/compressed_tensor.h"

namespace adze {

class PivotedTensor final : public CompressedTensor {
 public:
  using Part = std::shared_ptr<const CompressedTensor>;

  /// Throws bad_data unless pivots are different columns, one for each row of `rest`.
  PivotedTensor(std::vector<std::size_t> pivots, Part rest);
  /// From stored bytes; throws bad_data for bytes of the wrong size, too.
  static std::shared_ptr<const PivotedTensor> from_payload(const std::string& rest_format, Shape shape,
                                                           std::vector<std::byte> payload);

  const std::vector<std::size_t>& pivots() const { return pivots_; }
  const CompressedTensor& rest() const { return *rest_; }

  Shape shape() const override { return {pivots_.size(), pivots_.size() + rest_->shape().cols}; }
  std::uint64_t bytes() const override { return payload_.size(); }
  std::uint64_t multiplications() const override { return rest_->multiplications(); }
  std::string format() const override;
  void decode_rows(std::size_t first, std::size_t count, std::span<float> out) const override;
  std::span<const std::byte> payload() const override { return payload_; }

 private:
  std::vector<std::size_t> pivots_;
  std::vector<std::size_t> others_;  ///< ascending
  Part rest_;
  std::vector<std::byte> payload_;
};

/// "pivoted f16", and the format of the rest; nothing when a format is not pivoted.
std::string pivoted_format(const std::string& rest);
std::optional<std::string> parse_pivoted_format(const std::string& format);
/// Exact bytes of the list of pivots. Throws bad_data when there are more rows than columns.
std::uint64_t pivot_list_bytes(Shape shape);

}  // namespace adze
