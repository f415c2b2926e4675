#include "export/compare_models.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"
#include "export/tensor_walk.h"

namespace adze {
namespace {

void compare(const CompressedTensor& written, const CompressedTensor& meant) {
  constexpr std::size_t kTileRows = 64;
  const Shape shape = meant.shape();
  if (written.shape() != shape) fail(ErrorKind::internal, "another shape");
  if (written.format() == meant.format() && same_bytes(written.payload(), meant.payload())) return;
  std::vector<std::uint8_t> differs(divide_up(shape.rows, kTileRows));
  parallel_for(differs.size(), [&](std::size_t tile) {
    const std::size_t first = tile * kTileRows, count = std::min(kTileRows, shape.rows - first);
    std::vector<float> left(count * shape.cols), right(count * shape.cols);
    written.decode_rows(first, count, left);
    meant.decode_rows(first, count, right);
    differs[tile] = left != right;
  });
  if (const auto at = std::ranges::find(differs, 1); at != differs.end())
    fail(ErrorKind::internal, "rows from {} on differ from the model", (at - differs.begin()) * kTileRows);
}

}  // namespace

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

void compare_models(const ExportPlan& plan, const ModelWeights& written, const ModelWeights& model,
                    const std::function<TensorPtr(const TensorPtr&)>& meant, const std::string& origin,
                    Progress& progress) {
  std::vector<std::size_t> order(plan.architecture.layers);
  std::iota(order.begin(), order.end(), std::size_t{0});
  TensorWalk in_file(written), in_model(model, order);
  progress.start("verifying", plan.tensors.size());
  for (std::size_t t = 0; t < plan.tensors.size(); ++t) {
    const TensorSpec& spec = plan.tensors[t].spec;
    with_context(fmt::format("{}: tensor '{}'", origin, spec.hf_name), [&] {
      const TensorValues left = in_file.at(spec), right = in_model.at(spec);
      if (right.matrix)
        compare(*left.matrix, *meant(right.matrix));
      else if (left.vector != right.vector)
        fail(ErrorKind::internal, "what was written is not what was meant");
    });
    progress.update(t + 1);
  }
}

}  // namespace adze
