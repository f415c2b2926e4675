#include "evaluate/layers.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/parallel.h"
#include "linalg/eigen.h"
#include "linalg/factor.h"
#include "metrics/proxy_loss.h"
#include "metrics/rate_distortion.h"

namespace adze {
namespace {

/// H of one input, damped, and what bounds are made of.
struct Input {
  MatrixD h;
  MatrixD root;  // upper triangular, root root^T = h
  std::vector<double> eigenvalues;

  explicit Input(ConstViewD moment) : h(with_damping(moment, kLayerDamping)), root(h) {
    if (reverse_cholesky(root)) fail(ErrorKind::bad_data, "H of the inputs is not positive semidefinite");
  }
};

/// One matrix of the original: what all models are compared with.
class OriginalMatrix {
 public:
  OriginalMatrix(std::string module, TensorPtr tensor) : module_(std::move(module)), tensor_(std::move(tensor)) {}

  void decode() {
    weights_ = tensor_->decode();
    variances_ = row_variances(weights_);
  }
  void bound(const Input& input) {
    const RowStructure structure = row_structure(weights_, variances_);
    shrinkage_ = structure.shrinkage;
    structured_.emplace(variances_, structured_eigenvalues(structure, input.root));
  }
  /// After bound() and the input's eigenvalues.
  void finish(const Input& input) {
    independent_.emplace(variances_, input.eigenvalues);
    energy_ = output_energy(weights_, input.h);
  }

  LayerResult judge(const CompressedTensor& tensor, const Input& input) const {
    if (tensor.shape() != weights_.shape())
      fail(ErrorKind::bad_data,
           "{} is [{} x {}], the original's [{} x {}]: a model of another shape has other inputs than those measured",
           module_, tensor.shape().rows, tensor.shape().cols, weights_.rows(), weights_.cols());
    LayerResult result{.module = module_,
                       .format = tensor.format(),
                       .shape = tensor.shape(),
                       .bytes = tensor.bytes(),
                       .loss = proxy_loss(weights_, tensor.decode(), input.h),
                       .energy = energy_,
                       .independent = {},
                       .structured = {},
                       .shrinkage = shrinkage_};
    if (result.loss > 0) {
      result.independent = gap(*independent_, result);
      result.structured = gap(*structured_, result);
    }
    return result;
  }

 private:
  static LimitGap gap(const RateDistortion& bound, const LayerResult& result) {
    return {bound.bits_at_loss(result.loss), result.loss / bound.loss_at_bits(result.bits())};
  }

  std::string module_;
  TensorPtr tensor_;
  MatrixF weights_;
  std::vector<double> variances_;
  std::optional<RateDistortion> independent_, structured_;
  double energy_ = 0, shrinkage_ = 0;
};

/// Matrices of one input, and each model's tensors in their place: [matrix][model].
struct SharedInput {
  std::vector<OriginalMatrix> matrices;
  std::vector<std::vector<TensorPtr>> tensors;
};

void judge_input(SharedInput& shared, ConstViewD moment, std::vector<std::vector<LayerResult>>& results) {
  Input input(moment);
  // Factorisations are single-threaded, so they run side by side: that of H, and one for each matrix.
  parallel_for(shared.matrices.size() + 1, [&](std::size_t i) {
    if (i == shared.matrices.size()) {
      input.eigenvalues = symmetric_eigenvalues(input.h);
      return;
    }
    shared.matrices[i].decode();
    shared.matrices[i].bound(input);
  });
  for (std::size_t i = 0; i < shared.matrices.size(); ++i) {
    shared.matrices[i].finish(input);
    for (std::size_t m = 0; m < results.size(); ++m)
      results[m].push_back(shared.matrices[i].judge(*shared.tensors[i][m], input));
  }
}

/// Beyond what storing them in 16 bits can change.
bool differs(std::span<const float> norm, std::span<const float> original) {
  constexpr float kRounding = 0x1p-7f;
  return !std::ranges::equal(norm, original,
                             [](float a, float b) { return std::abs(a - b) <= kRounding * std::abs(b); });
}

void check_norms(const std::string& where, std::span<const float> norm, std::span<const float> original) {
  if (!differs(norm, original)) return;
  fail(ErrorKind::bad_data,
       "{}: its norm is not the original's: a transform has changed what its matrices are given, so that statistics of "
       "the original do not say what they lose",
       where);
}

void check_shape(const ModelWeights& model, const ModelWeights& original) {
  const Architecture &a = model.architecture(), &b = original.architecture();
  if (a.layers != b.layers || a.hidden != b.hidden || a.vocab != b.vocab)
    fail(ErrorKind::bad_data, "a model of {} blocks, {} hidden and {} tokens; the original has {}, {} and {}", a.layers,
         a.hidden, a.vocab, b.layers, b.hidden, b.vocab);
}

void judge_block(const ModelWeights& original, std::span<const ModelWeights* const> models,
                 const StatisticsFolder& statistics, std::size_t index,
                 std::vector<std::vector<LayerResult>>& results) {
  const BlockWeights block = original.block(index);
  std::vector<BlockWeights> blocks;
  for (const ModelWeights* const model : models) {
    blocks.push_back(model->block(index));
    for (std::size_t n = 0; n < kNormCount; ++n) {
      const std::string where = fmt::format("block {}", index);
      check_norms(where, blocks.back().norms[n], block.norms[n]);
      check_norms(where, blocks.back().norm_biases[n], block.norm_biases[n]);
    }
  }
  const Architecture& architecture = original.architecture();
  for (const Stage stage : stages_of(architecture)) {
    SharedInput shared;
    for (const LinearInfo& linear : linears_of(architecture, stage)) {
      shared.matrices.emplace_back(module_name(index, linear), block[linear.slot].weight);
      std::vector<TensorPtr>& tensors = shared.tensors.emplace_back();
      for (const BlockWeights& compressed : blocks) tensors.push_back(compressed[linear.slot].weight);
    }
    judge_input(shared, statistics.block_input(index, stage).second_moment, results);
  }
}

void judge_head(const ModelWeights& original, std::span<const ModelWeights* const> models,
                const StatisticsFolder& statistics, std::vector<std::vector<LayerResult>>& results) {
  SharedInput shared;
  shared.matrices.emplace_back("lm_head", original.head());
  std::vector<TensorPtr>& tensors = shared.tensors.emplace_back();
  const Norm norm = norm_of(original);
  for (const ModelWeights* const model : models) {
    check_norms("head", model->final_norm(), norm.weight);
    check_norms("head", model->final_norm_bias(), norm.bias);
    tensors.push_back(model->head());
  }
  judge_input(shared, statistics.head_input().second_moment, results);
}

}  // namespace

std::vector<std::vector<LayerResult>> judge_layers(const ModelWeights& original,
                                                   std::span<const ModelWeights* const> models,
                                                   const StatisticsFolder& statistics, Progress& progress) {
  check_same_model(statistics, original.architecture());
  for (const ModelWeights* const model : models) check_shape(*model, original);
  std::vector<std::vector<LayerResult>> results(models.size());
  const std::size_t layers = original.architecture().layers;
  progress.start("measuring layers", layers + 1);
  for (std::size_t block = 0; block < layers; ++block) {
    judge_block(original, models, statistics, block, results);
    progress.update(block + 1);
  }
  judge_head(original, models, statistics, results);
  progress.update(layers + 1);
  return results;
}

LayerTotals total_of(std::span<const LayerResult> layers) {
  LayerTotals totals;
  double limit_bits = 0, structured_bits = 0;
  for (const LayerResult& layer : layers) {
    totals.weights += layer.shape.count();
    totals.bytes += layer.bytes;
    if (!layer.independent) continue;
    const auto weights = static_cast<double>(layer.shape.count());
    totals.inexact_weights += layer.shape.count();
    totals.inexact_bytes += layer.bytes;
    limit_bits += weights * layer.independent->limit;
    structured_bits += weights * layer.structured->limit;
  }
  if (totals.inexact_weights > 0) {
    totals.limit = limit_bits / static_cast<double>(totals.inexact_weights);
    totals.structured_limit = structured_bits / static_cast<double>(totals.inexact_weights);
  }
  return totals;
}

nlohmann::ordered_json to_json(std::span<const LayerResult> layers) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const LayerResult& layer : layers) {
    nlohmann::ordered_json json = {{"matrix", layer.module},   {"format", layer.format},
                                   {"rows", layer.shape.rows}, {"cols", layer.shape.cols},
                                   {"bytes", layer.bytes},     {"bits_per_weight", layer.bits()},
                                   {"loss", layer.loss},       {"relative_loss", layer.relative_loss()}};
    const auto add_gap = [&](const std::string& prefix, const std::optional<LimitGap>& gap) {
      using Json = nlohmann::ordered_json;
      json[prefix + "limit_bits"] = gap ? Json(gap->limit) : Json();
      json[prefix + "bits_above_limit"] = gap ? Json(layer.bits() - gap->limit) : Json();
      json[prefix + "loss_factor"] = gap ? Json(gap->loss_factor) : Json();
    };
    add_gap("", layer.independent);
    add_gap("structured_", layer.structured);
    json["shrinkage"] = layer.shrinkage;
    json["worse_than_nothing"] = layer.worse_than_nothing();
    list.push_back(std::move(json));
  }
  return list;
}

}  // namespace adze
