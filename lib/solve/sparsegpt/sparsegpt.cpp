#include "solve/sparsegpt/sparsegpt.h"

#include <fmt/format.h>

#include "grid/float_grid.h"
#include "solve/masks/masked_solver.h"

namespace adze {
namespace {

/// Prunes alone: the encoding's mask afterwards is SparseGPT's, the values are returned.
MatrixF prune(ConstViewF weights, const SparsityPattern& pattern, bool enumerate, const InputKnowledge& inputs,
              Encoding& encoding) {
  Encoding floats(make_float_grid(DType::f16), weights.shape());
  floats.prune(pattern, Mask(weights.shape()));
  round_shared(weights, inputs, ScaleRule::minmax, floats, pattern, enumerate);
  encoding.prune(pattern, floats.mask());
  MatrixF values(weights.shape());
  for (std::size_t r = 0; r < weights.rows(); ++r)
    for (std::size_t c = 0; c < weights.cols(); ++c) values(r, c) = floats.value(r, c);
  return values;
}

}  // namespace

std::unique_ptr<Solver> configure_sparsegpt(MapReader& options) {
  const bool joint = options.optional("joint").boolean().value_or(true);
  const bool enumerate = options.optional("enumerate").boolean().value_or(true);
  const MaskedOptions read = read_masked_options(options, {});
  const ValueMaker values = [joint, enumerate, rule = read.scale_rule](
                                ConstViewF weights, const std::optional<SparsityPattern>& pattern,
                                const InputKnowledge& inputs, Encoding& encoding) {
    if (joint) return round_shared(weights, inputs, rule, encoding, pattern, enumerate);
    const MatrixF pruned = prune(weights, *pattern, enumerate, inputs, encoding);
    return round_shared(pruned, inputs, rule, encoding);
  };
  return make_masked_solver({"sparsegpt", fmt::format("joint={} enumerate={} ", joint, enumerate), {}, values}, read);
}

}  // namespace adze
