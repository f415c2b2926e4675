#include "grid/factors/sum_tensor.h"

#include <string_view>

#include <fmt/format.h>

#include "base/error.h"
#include "grid/factors/payload.h"

namespace adze {
namespace {

constexpr std::string_view kPlus = " + ";

}  // namespace

SumTensor::SumTensor(Part base, Part correction) : base_(std::move(base)), correction_(std::move(correction)) {
  if (base_->shape() != correction_->shape())
    fail(ErrorKind::bad_data, "a sum of {} x {} and {} x {} weights", base_->shape().rows, base_->shape().cols,
         correction_->shape().rows, correction_->shape().cols);
  payload_ = joined_payload(*base_, *correction_);
}

std::string SumTensor::format() const { return sum_format({base_->format(), correction_->format()}); }

void SumTensor::decode_rows(std::size_t first, std::size_t count, std::span<float> out) const {
  base_->decode_rows(first, count, out);
  std::vector<float> correction(out.size());
  correction_->decode_rows(first, count, correction);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] += correction[i];
}

std::string sum_format(const SumFormat& parts) { return fmt::format("{}{}{}", parts.base, kPlus, parts.correction); }

std::optional<SumFormat> parse_sum_format(const std::string& format) {
  const std::size_t at = format.find(kPlus);
  // Inside brackets it belongs to a part.
  if (at == std::string::npos || format.find('[') < at) return std::nullopt;
  return SumFormat{format.substr(0, at), format.substr(at + kPlus.size())};
}

}  // namespace adze
