// What is done to a model before anything is solved: the items of a recipe's `transform` list. A transform makes a
// model of a model, block by block. Those that fold into the weights (rotations, scalings) leave its function as it is,
// up to rounding; structured pruning makes a smaller one. Either way the result is an ordinary model, which needs
// nothing of a runtime, and everything after sees that model only.
//
// Life cycle: the registry row's configure() reads the options once, checks the structure of the model, and gives an
// immutable Transform, to be shared among threads.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "calibrate/statistics.h"
#include "grid/grid.h"
#include "model/weights.h"
#include "recipe/reader.h"

namespace adze {

/// What a transform may know of a block: the inputs of its stages, measured with the block as the transforms before
/// have left it, and the grids that its linears will be rounded to.
struct BlockInputs {
  std::map<Stage, InputStatistics> stages;                  ///< but those of experts
  std::map<LinearSlot, std::shared_ptr<const Grid>> grids;  ///< null: it is not rounded to a grid

  const InputStatistics& operator[](Stage stage) const { return stages.at(stage); }
  std::shared_ptr<const Grid> grid(LinearSlot slot) const {
    const auto at = grids.find(slot);
    return at == grids.end() ? nullptr : at->second;
  }
};

class Transform;

/// What a transform wants to see of the whole original model before it makes anything of it. Shown block by block, each
/// stage in its order, and the head at the end.
class Survey {
 public:
  virtual ~Survey() = default;
  virtual bool wants(Stage stage) const = 0;
  virtual bool wants_head() const { return false; }
  /// True when it wants to run the model itself; if it wants no stage and no head, nothing else is run.
  virtual bool wants_model() const { return false; }
  /// The original model and the calibration windows, `tokens` each.
  virtual void see_model(const std::shared_ptr<const ModelWeights>& /*model*/, std::span<const std::int32_t> /*ids*/,
                         std::size_t /*tokens*/) {}
  /// Statistics of the stage's inputs; block: whose they are.
  virtual void see(Stage stage, const InputStatistics& inputs, const BlockWeights& block) = 0;
  /// Of what the head reads; norm: the final norm before it, [hidden].
  virtual void see_head(const InputStatistics& /*inputs*/, std::span<const float> /*norm*/) {}
  /// The transform that does it. Throws bad_data when what was seen does not allow it.
  virtual std::shared_ptr<const Transform> result() = 0;
};

class Transform {
 public:
  virtual ~Transform() = default;

  /// Every option with its value, in a fixed order.
  virtual std::string description() const = 0;
  /// What a reader of the plan should know beside that ("unties the head"); empty: nothing.
  virtual std::string remark() const { return ""; }
  /// True when block() wants inputs: then all transforms of the list are applied in one pass over the calibration set.
  virtual bool needs_inputs() const { return false; }
  /// True when it must see the whole original model before it can do anything: then the model is run once before, and
  /// what its survey() gives takes this one's place. Only of one that comes first.
  virtual bool needs_survey() const { return false; }
  virtual std::unique_ptr<Survey> survey() const;
  /// What the survey runs the model on, where it does so itself (Survey::wants_model()): windows whose states it holds,
  /// and blocks that it may load at once. For the memory plan.
  struct JudgedSurvey {
    std::size_t windows = 0;
    std::size_t blocks = 1;
  };
  virtual std::optional<JudgedSurvey> judged_survey() const { return std::nullopt; }
  /// The model with other blocks, which block() and the transforms behind it then take one by one. Only of one that
  /// comes first.
  virtual std::shared_ptr<const ModelWeights> reshaped(std::shared_ptr<const ModelWeights> original) const {
    return original;
  }
  /// Of the model it makes of one with this architecture.
  virtual Architecture architecture(const Architecture& before) const { return before; }

  /// The block of the new model; `inputs` is null unless needs_inputs(). Matrices that change become f32, and are freed
  /// as their successors are made where the caller gave them away. Throws bad_data, naming the matrix, when a value
  /// does not fit f32.
  virtual BlockWeights block(BlockWeights block, std::size_t index, const BlockInputs* inputs) const = 0;
  virtual TensorPtr embedding(TensorPtr table) const { return table; }
  /// table: [vocab x hidden], the embedding when tied; norm: the final norm before the transform, [hidden].
  virtual TensorPtr head(TensorPtr table, std::span<const float> /*norm*/) const { return table; }
  virtual std::vector<float> final_norm(std::vector<float> norm) const { return norm; }
};

/// Description and, where there is one, remark.
std::string in_words(const Transform& transform);

using Transforms = std::vector<std::shared_ptr<const Transform>>;

/// The original as the first transform of a list wants its blocks.
std::shared_ptr<const ModelWeights> reshaped(std::shared_ptr<const ModelWeights> original,
                                             const Transforms& transforms);

/// Of what a list of transforms makes.
Architecture transformed(Architecture architecture, const Transforms& transforms);

struct TransformInfo {
  std::string_view name;
  std::string_view summary;
  bool comes_first;  ///< it moves the gains of norms, where other transforms fold theirs, or surveys the original
  /// Reads the options it knows; problems with them go to the map's Diagnostics. `original`: the model that the
  /// transforms before it in the list make. Throws bad_recipe when the model's structure forbids it.
  std::shared_ptr<const Transform> (*configure)(MapReader& options, const Architecture& original);
};

std::span<const TransformInfo> transforms();
/// nullptr when there is none of that name.
const TransformInfo* find_transform(std::string_view name);

/// A model as transforms make it that need no inputs: read and transformed block by block, anew at every call.
class TransformedWeights final : public ModelWeights {
 public:
  TransformedWeights(std::shared_ptr<const ModelWeights> original, Transforms transforms);

  const Architecture& architecture() const override { return architecture_; }
  TensorPtr embedding() const override;
  /// Transforms that change the states do not fold into learned positions and biases of norms: these stay.
  TensorPtr positions() const override { return original_->positions(); }
  BlockWeights block(std::size_t index) const override;
  std::vector<float> final_norm() const override;
  std::vector<float> final_norm_bias() const override { return original_->final_norm_bias(); }
  TensorPtr head() const override;

 private:
  std::shared_ptr<const ModelWeights> original_;
  Transforms transforms_;
  Architecture architecture_;
};

}  // namespace adze
