#include "pipeline/resources.h"

#include <algorithm>
#include <map>

#include "base/checked.h"
#include "base/parallel.h"
#include "calibrate/block_pass.h"

namespace adze {
namespace {

constexpr std::uint64_t kProgram = std::uint64_t{64} << 20;  // code, libraries, tokenizer, BLAS buffers

/// Blocks by number, and what lies outside them under a number of its own.
constexpr std::size_t kOutside = ~std::size_t{0};

template <typename Map>
std::uint64_t largest(const Map& map) {
  std::uint64_t most = 0;
  for (const auto& [key, value] : map) most = std::max(most, value);
  return most;
}

/// Bytes as stored, before and after, of each block and of what lies outside.
std::map<std::size_t, std::uint64_t> stored_bytes(const CompressionPlan& plan) {
  std::map<std::size_t, std::uint64_t> bytes;
  for (const ModulePlan& module : plan.modules)
    bytes[module.spec.block.value_or(kOutside)] += module.original_bytes + module.bytes;
  return bytes;
}

/// The largest group of matrices that are solved together: weights and their approximation in single precision, codes.
std::uint64_t largest_solve(const CompressionPlan& plan) {
  std::map<std::pair<std::size_t, int>, std::uint64_t> groups;
  for (const ModulePlan& module : plan.modules) {
    if (module.format == module.original_format) continue;
    const bool in_block = module.spec.block.has_value();
    const int part = in_block ? static_cast<int>(*module.spec.stage()) : -1 - static_cast<int>(module.spec.role);
    const std::uint64_t count = module.spec.shape[0] * module.spec.shape[1];
    groups[{module.spec.block.value_or(kOutside), part}] += count * (2 * sizeof(float) + sizeof(std::int16_t));
  }
  return largest(groups);
}

/// H three times over (the sum, its permuted copy, the factor in single precision) and a batch of the inputs.
std::uint64_t largest_moment(const CompressionPlan& plan, std::uint64_t batch_tokens) {
  std::uint64_t most = 0;
  for (const ModulePlan& module : plan.modules) {
    if (!module.spec.block && !module.scheme) continue;
    const std::uint64_t inputs = module.spec.shape[1];
    most = std::max(most, inputs * inputs * (2 * sizeof(double) + sizeof(float)) + batch_tokens * inputs * sizeof(float));
  }
  return most;
}

}  // namespace

Resources predict_resources(const Recipe& recipe, const Architecture& architecture, const CompressionPlan& plan) {
  const std::uint64_t tokens = recipe.calibration.tokens;
  const std::uint64_t states =
      checked_mul(checked_mul(recipe.calibration.windows, tokens), architecture.hidden * sizeof(float));
  std::map<std::size_t, std::uint64_t> stored = stored_bytes(plan);
  const std::uint64_t outside = stored[kOutside];
  stored.erase(kOutside);
  const std::uint64_t scratch = tokens * (3 * architecture.ffn + 4 * architecture.hidden) * sizeof(float);
  Resources resources;
  resources.temporary_disk = 2 * states;
  resources.peak_memory = kProgram + states + outside + largest(stored) + largest_solve(plan) +
                          largest_moment(plan, batch_windows(tokens) * tokens) +
                          static_cast<std::uint64_t>(thread_count()) * scratch;
  const bool copies_states = recipe.stages == StageMode::once && recipe.propagate == PropagateMode::compressed;
  if (copies_states) resources.peak_memory += states;
  return resources;
}

std::uint64_t evaluation_memory(const Architecture& architecture, const CompressionPlan& plan, std::uint64_t tokens) {
  const std::uint64_t states = checked_mul(2 * tokens, architecture.hidden * sizeof(float));
  constexpr std::uint64_t kLogitRows = 2 * 256;  // of both models; evaluate() takes fewer when the vocabulary is large
  constexpr std::uint64_t kLogitBytes = std::uint64_t{2} << 26;
  const std::uint64_t logits = std::min(kLogitRows * architecture.vocab * sizeof(float), kLogitBytes);
  std::map<std::size_t, std::uint64_t> stored = stored_bytes(plan);
  const std::uint64_t outside = stored[kOutside];
  stored.erase(kOutside);
  return kProgram + states + outside + largest(stored) + static_cast<std::uint64_t>(thread_count()) * logits;
}

}  // namespace adze
