#include "export/folder/cache_scales.h"

#include <cmath>

#include "base/error.h"
#include "model/packed/stored_cache_scales.h"

namespace adze {
namespace {

constexpr float kLargestE4m3 = 448;
constexpr float kZero = 1e-30f;  ///< below it a scale would not be a normal number

void compare(float scale, float largest, const std::string& name, Progress& progress) {
  constexpr float kRounding = 1e-6f;  // of the division, and of the product here
  if (largest < kZero) progress.note(fmt::format("{}: all that its cache held was zero; the scale is 1", name));
  const float meant = largest < kZero ? kLargestE4m3 : largest;
  if (!(std::fabs(scale * kLargestE4m3 - meant) <= kRounding * meant))
    fail(ErrorKind::internal, "tensor '{}': the scale {} was written for a largest magnitude of {}", name, scale,
         largest);
}

}  // namespace

std::optional<SafetensorsSpec> cache_scale_part(const ExportPlan& plan, const PlannedTensor& tensor) {
  const bool fills = tensor.spec.role == TensorRole::linear &&
                     (tensor.spec.slot == LinearSlot::k || tensor.spec.slot == LinearSlot::v);
  if (plan.cache == CacheScales::none || !fills) return std::nullopt;
  const char* const name = tensor.spec.slot == LinearSlot::k ? "k_scale" : "v_scale";
  return SafetensorsSpec{
      StoredCacheScales::name(plan.architecture, *tensor.spec.block, name), SafetensorsType::f32, {1}};
}

float cache_scale(const TensorSpec& tensor, const std::optional<CacheMaxima>& maxima) {
  if (!maxima) fail(ErrorKind::bad_data, "{}", no_cache_maxima(*tensor.block));
  const float largest = tensor.slot == LinearSlot::k ? maxima->keys : maxima->values;
  if (!std::isfinite(largest)) fail(ErrorKind::bad_data, "the largest magnitude in its cache is {}", largest);
  return largest < kZero ? 1.0f : largest / kLargestE4m3;
}

void verify_cache_scales(const std::filesystem::path& folder, const ModelWeights& model, Progress& progress) {
  const StoredCacheScales stored(folder, model.architecture());
  for (std::size_t block = 0; block < model.architecture().layers; ++block) {
    const std::optional<CacheMaxima> maxima = model.cache_of(block);
    if (!maxima) fail(ErrorKind::internal, "block {}: maxima that were there are gone", block);
    compare(stored.keys(block), maxima->keys, stored.key_name(block), progress);
    compare(stored.values(block), maxima->values, stored.value_name(block), progress);
  }
}

}  // namespace adze
