#include "export/compare_models.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/parallel.h"

namespace adze {
namespace {

/// Throws internal, naming the first of `written` that is not as in `meant`; they are the rows of a matrix from
/// `first_row` on.
void compare_values(std::span<const float> written, std::span<const float> meant, std::size_t first_row,
                    std::size_t cols) {
  const auto [left, right] = std::ranges::mismatch(written, meant);
  if (left == written.end()) return;
  const auto at = static_cast<std::size_t>(left - written.begin());
  fail(ErrorKind::internal, "row {}, column {}: {} was written, the model has {}", first_row + at / cols, at % cols,
       *left, *right);
}

void compare(const CompressedTensor& written, const CompressedTensor& meant) {
  constexpr std::size_t kTileRows = 64;
  const Shape shape = meant.shape();
  if (written.shape() != shape) fail(ErrorKind::internal, "another shape");
  if (written.format() == meant.format() && same_bytes(written.payload(), meant.payload())) return;
  const auto decode = [&](std::size_t tile, std::vector<float>& left, std::vector<float>& right) {
    const std::size_t first = tile * kTileRows, count = std::min(kTileRows, shape.rows - first);
    left.resize(count * shape.cols);
    right.resize(count * shape.cols);
    written.decode_rows(first, count, left);
    meant.decode_rows(first, count, right);
  };
  std::vector<std::uint8_t> differs(divide_up(shape.rows, kTileRows));
  parallel_for(differs.size(), [&](std::size_t tile) {
    std::vector<float> left, right;
    decode(tile, left, right);
    differs[tile] = left != right;
  });
  const auto at = std::ranges::find(differs, 1);
  if (at == differs.end()) return;
  const auto tile = static_cast<std::size_t>(at - differs.begin());
  std::vector<float> left, right;
  decode(tile, left, right);
  compare_values(left, right, tile * kTileRows, shape.cols);
}

void compare(std::span<const float> written, std::span<const float> meant) {
  if (written.size() != meant.size()) fail(ErrorKind::internal, "another size");
  compare_values(written, meant, 0, meant.size());
}

}  // namespace

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

void MeantTensors::note(std::size_t tensor, const std::string& format, std::span<const std::byte> payload) {
  if (!notes_[tensor]) notes_[tensor] = {format, hash_hex(payload)};
}

void MeantTensors::note(std::size_t tensor, const TensorValues& values) {
  note(tensor, values.format(), values.payload());
}

bool MeantTensors::is(std::size_t tensor, const std::string& format, std::span<const std::byte> payload) const {
  return notes_[tensor] && notes_[tensor]->format == format && notes_[tensor]->hash == hash_hex(payload);
}

bool MeantTensors::is(std::size_t tensor, const TensorValues& values) const {
  return is(tensor, values.format(), values.payload());
}

void compare_models(const ExportPlan& plan, const ModelWeights& written, const ModelWeights& model,
                    const std::function<TensorPtr(const TensorPtr&)>& as_stored, const MeantTensors& meant,
                    const std::string& origin, Progress& progress, StoredNorms norms) {
  TensorWalk in_file(written, specs_of(plan)), in_model(model);
  progress.start("verifying", plan.tensors.size());
  for (std::size_t t = 0; t < plan.tensors.size(); ++t) {
    const TensorSpec& spec = plan.tensors[t].spec;
    with_context(fmt::format("{}: tensor '{}'", origin, spec.hf_name), [&] {
      const TensorValues left = in_file.at(spec);
      if (meant.is(t, left)) return;
      const TensorValues right = in_model.at(spec);
      if (right.matrix)
        compare(*left.matrix, *as_stored(right.matrix));
      else if (norms == StoredNorms::gains && spec.role == TensorRole::norm)
        compare(gains_of_norm(plan.architecture, left.vector), gains_of_norm(plan.architecture, right.vector));
      else
        compare(left.vector, right.vector);
    });
    progress.update(t + 1);
  }
}

}  // namespace adze
