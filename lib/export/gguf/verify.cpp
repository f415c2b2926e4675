#include "export/gguf/verify.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "export/tensor_walk.h"
#include "grid/format.h"
#include "model/gguf_rules.h"
#include "model/gguf_weights.h"

namespace adze {
namespace {

void compare_header(const GgufFile& file, const GgufPart& part) {
  const auto stored = file.metadata();
  for (std::size_t i = 0; i < std::max(stored.size(), part.metadata.size()); ++i)
    if (i >= stored.size() || i >= part.metadata.size() || stored[i] != part.metadata[i])
      fail(ErrorKind::internal, "key {} differs from what was meant ('{}')", i,
           i < part.metadata.size() ? part.metadata[i].key : "none");
  const auto tensors = file.tensors();
  if (tensors.size() != part.tensors.size())
    fail(ErrorKind::internal, "{} tensors instead of {}", tensors.size(), part.tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const GgufTensorSpec& meant = part.tensors[i];
    if (tensors[i].name != meant.name || tensors[i].type->id != meant.type || tensors[i].dims != meant.dims)
      fail(ErrorKind::internal, "tensor '{}' differs in name, type or shape from '{}'", tensors[i].name, meant.name);
  }
}

/// The rule without the numbers that it does not use, the others as the floats that a GGUF has.
RopeSpec as_stored(const RopeSpec& rope) {
  const auto rounded = [](double value) { return static_cast<double>(static_cast<float>(value)); };
  RopeSpec result;
  result.kind = rope.kind;
  result.theta = rounded(rope.theta);
  if (rope.kind == RopeKind::none) return result;
  if (rope.kind == RopeKind::longrope) {
    for (const double divisor : rope.divisors) result.divisors.push_back(rounded(divisor));
    for (const double divisor : rope.long_divisors) result.long_divisors.push_back(rounded(divisor));
    result.attention_factor = rounded(rope.attention_factor);
    if (!rope.long_divisors.empty()) result.original_max_positions = rope.original_max_positions;
    return result;
  }
  result.factor = rounded(rope.factor);
  if (rope.kind == RopeKind::linear) return result;
  if (rope.kind == RopeKind::yarn) {
    result.original_max_positions = rope.original_max_positions;
    result.beta_fast = rounded(rope.beta_fast);
    result.beta_slow = rounded(rope.beta_slow);
    result.attention_factor = rounded(rope.attention_factor / yarn_attention_factor(rope.factor));
    return result;
  }
  result.low_freq_factor = rounded(rope.low_freq_factor);
  result.high_freq_factor = rounded(rope.high_freq_factor);
  result.original_max_positions = rope.original_max_positions;
  return result;
}

/// What of an architecture a GGUF says: not which of two families with one GGUF name it is, no window that the runtime
/// does not have, no special tokens beyond the tokenizer's (compared as metadata).
Architecture as_stored(Architecture a) {
  const SlidingRule& rule = a.info().window;  // a window of all positions changes nothing, but for a RoPE of its own
  if (!rule.in_gguf || (rule.theta_key.empty() && a.sliding_window >= a.max_positions)) {
    a.sliding_window = 0;
    a.full_attention.clear();
  }
  a.embedding_scale = gguf_embedding_scale(a);
  a.attention_cap = static_cast<float>(a.attention_cap);
  a.final_cap = static_cast<float>(a.final_cap);
  if (a.sliding_rope) a.sliding_rope = as_stored(*a.sliding_rope);
  a.family = family_of_gguf(a.info().gguf_name, a.is_mixture())->hf_class;
  a.tied_stated = false;
  a.bos_id.reset();
  a.eos_ids.clear();
  a.norm_eps = static_cast<float>(a.norm_eps);
  a.rope = as_stored(a.rope);
  return a;
}

void compare_architecture(const Architecture& written, const Architecture& meant) {
  if (as_stored(written) != as_stored(meant))
    fail(ErrorKind::internal, "the settings that were written describe another architecture");
}

struct Difference {
  std::size_t row = 0, col = 0;
  float written = 0, meant = 0;
};

std::optional<Difference> first_difference(const CompressedTensor& written, const CompressedTensor& meant,
                                           std::size_t first, std::size_t count) {
  const std::size_t cols = meant.shape().cols;
  std::vector<float> left(count * cols), right(count * cols);
  written.decode_rows(first, count, left);
  meant.decode_rows(first, count, right);
  const auto [l, r] = std::ranges::mismatch(left, right);
  if (l == left.end()) return std::nullopt;
  const auto at = static_cast<std::size_t>(l - left.begin());
  return Difference{first + at / cols, at % cols, *l, *r};
}

/// skipped: first rows that the file has not got.
void compare_matrices(const CompressedTensor& written, const CompressedTensor& meant, std::size_t skipped) {
  constexpr std::size_t kTileRows = 64;
  const Shape shape = meant.shape();
  if (written.shape() != shape) fail(ErrorKind::internal, "another shape");
  std::vector<std::optional<Difference>> differences(divide_up(shape.rows - skipped, kTileRows));
  parallel_for(differences.size(), [&](std::size_t tile) {
    const std::size_t first = skipped + tile * kTileRows;
    differences[tile] = first_difference(written, meant, first, std::min(kTileRows, shape.rows - first));
  });
  for (const auto& difference : differences)
    if (difference)
      fail(ErrorKind::internal, "row {}, column {} is {} in the file and {} in the model", difference->row,
           difference->col, difference->written, difference->meant);
}

void compare_vectors(std::span<const float> written, std::span<const float> meant) {
  const auto [l, r] = std::ranges::mismatch(written, meant);
  if (l == written.end() && r == meant.end()) return;
  if (l == written.end() || r == meant.end())
    fail(ErrorKind::internal, "{} values in the file and {} in the model", written.size(), meant.size());
  fail(ErrorKind::internal, "element {} is {} in the file and {} in the model", l - written.begin(), *l, *r);
}

/// As the file has it: there, and there alone, a norm's values are those of the model to the bit.
std::vector<float> plus(std::vector<float> values, float offset) {
  for (float& value : values) value += offset;
  return values;
}

void compare_weights(const ModelWeights& written, const ExportPlan& plan, const ModelWeights& model,
                     const MeantTensors& meant, Progress& progress) {
  TensorWalk in_file(written, specs_of(plan));
  TensorWalk in_model(model);
  progress.start("verifying", plan.tensors.size());
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const TensorSpec& spec = plan.tensors[i].spec;
    const TensorValues left = in_file.at(spec);
    progress.update(i + 1);
    if (left.matrix && meant.is(i, left)) continue;
    const TensorValues right = in_model.at(spec);
    with_context(fmt::format("tensor '{}'", spec.gguf_name), [&] {
      if (right.matrix && is_composed(right.matrix->format()))
        return compare_matrices(*left.matrix, *densified(right.matrix), 0);  // exact only once it is rounded
      if (right.matrix) return compare_matrices(*left.matrix, *right.matrix, spec.gguf_rows.absent);
      const float offset = spec.role == TensorRole::norm ? plan.architecture.info().norm_offset : 0.0f;
      compare_vectors(plus(left.vector, offset), plus(right.vector, offset));
    });
  }
}

}  // namespace

void verify_gguf(std::span<const std::filesystem::path> paths, std::span<const GgufPart> parts, const ExportPlan& plan,
                 const ModelWeights& model, const MeantTensors& meant, Progress& progress) {
  std::vector<GgufFile> files = open_gguf_parts(paths);
  for (std::size_t i = 0; i < files.size(); ++i)
    with_context(paths[i].string(), [&] { compare_header(files[i], parts[i]); });
  const GgufWeights written(std::move(files));
  with_context(paths.front().string(), [&] {
    compare_architecture(written.architecture(), plan.architecture);
    compare_weights(written, plan, model, meant, progress);
  });
}

}  // namespace adze
