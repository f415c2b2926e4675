#include "pipeline/transform_step.h"

#include <algorithm>
#include <optional>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "calibrate/block_pass.h"
#include "model/compressed_store.h"
#include "model/rope_config.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

/// What `read` gives of a file that an earlier process left; nothing when there is none, or it is damaged, which is
/// said.
template <class Read>
auto whole(const fs::path& file, Progress& progress, Read&& read) -> std::optional<decltype(read())> {
  if (!fs::exists(file)) return std::nullopt;
  try {
    return read();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::bad_data) throw;
    progress.note(fmt::format("{}; made again", error.message()));
    return std::nullopt;
  }
}

class TransformPass {
 public:
  TransformPass(const CompressionPlan& plan, const OpenedModel& model, const StatesLayout& layout, fs::path folder,
                Progress& progress)
      : plan_(plan),
        model_(model),
        transforms_(plan.transforms),
        layout_(layout),
        folder_(std::move(folder)),
        progress_(progress) {}

  std::shared_ptr<const ModelWeights> run(const TokenWindows& windows) {
    const fs::path outer = folder_ / kOuterFileName;  // written last: the model is complete
    const auto open = [&] { return std::make_shared<const CompressedStore>(folder_); };
    if (const auto made = whole(outer, progress_, open)) return *made;
    for (auto& transform : transforms_)
      if (transform->needs_survey()) transform = surveyed(*transform, windows);
    original_ = reshaped(model_.weights, transforms_);
    make_forwards();
    const TransformedWeights tables(model_.weights, transforms_);
    HiddenStates states(layout_);
    states.begin(states_file(0));
    embed_windows(*forwards_.back(), input_tables(tables), windows.ids, states);
    if (layout_.on_disk) states.save();
    const std::size_t layers = plan_.architecture.layers;
    progress_.start("transforming", layers);
    for (std::size_t block = 0; block < layers; ++block) {
      states.begin(states_file(block + 1));
      run_block(*forwards_.back(), make_block(block, states), states);
      if (layout_.on_disk) {
        states.save();
        fs::remove(states_file(block));
      }
      progress_.update(block + 1);
    }
    std::error_code ignored;
    fs::remove(states_file(layers), ignored);
    const Architecture& made = tables.architecture();
    write_outer_file(outer, transformed_files(model_.files, model_.architecture(), made), outer_tensors(tables));
    return open();
  }

 private:
  void make_forwards() {
    Architecture architecture = original_->architecture();
    forwards_.push_back(std::make_unique<Forward>(architecture, layout_.tokens));
    for (const auto& transform : transforms_) {
      architecture = transform->architecture(architecture);
      forwards_.push_back(std::make_unique<Forward>(architecture, layout_.tokens));
    }
  }

  /// Runs the original model and shows it to the transform (Transform::survey), which gives the one that will do it.
  std::shared_ptr<const Transform> surveyed(const Transform& transform, const TokenWindows& windows) {
    const std::unique_ptr<Survey> survey = transform.survey();
    if (survey->wants_model()) {
      progress_.start(fmt::format("surveying for {}", transform.description()), 0);
      survey->see_model(model_.weights, windows.ids, layout_.tokens);
    }
    if (survey->wants_head() ||
        std::ranges::any_of(stages_of(model_.architecture()), [&](Stage stage) { return survey->wants(stage); }))
      show(*survey, windows);
    std::shared_ptr<const Transform> settled = survey->result();
    progress_.note(in_words(*settled));
    return settled;
  }

  /// Every stage that it wants, in order, and the head's input.
  void show(Survey& survey, const TokenWindows& windows) {
    StatesLayout layout = layout_;
    layout.hidden = model_.architecture().hidden;
    const auto file = [&](std::size_t done) { return folder_ / fmt::format("states-surveying-{:04}.f32", done); };
    HiddenStates states(layout);
    states.begin(file(0));
    const Forward forward(model_.architecture(), layout.tokens);
    embed_windows(forward, input_tables(*model_.weights), windows.ids, states);
    if (layout.on_disk) states.save();
    const std::size_t layers = model_.architecture().layers;
    progress_.start("surveying", layers);
    for (std::size_t block = 0; block < layers; ++block) {
      const BlockWeights weights = model_.weights->block(block);
      states.begin(file(block + 1));
      BlockPass pass(forward, states);
      for (const Stage stage : stages_of(model_.architecture())) {
        if (survey.wants(stage))
          survey.see(stage, pass.measure(stage, weights), weights);
        else
          pass.pass_by(stage, weights);
      }
      pass.finish(weights);
      if (layout.on_disk) {
        states.save();
        fs::remove(file(block));
      }
      progress_.update(block + 1);
    }
    if (survey.wants_head()) {
      const Norm norm = norm_of(*model_.weights);
      survey.see_head(measure_head_input(forward, norm, states), norm.weight);
    }
    std::error_code ignored;
    fs::remove(file(layers), ignored);
  }

  fs::path states_file(std::size_t blocks_done) const {
    return folder_ / fmt::format("states-transforming-{:04}.f32", blocks_done);
  }

  /// `states`: the block's input.
  BlockWeights make_block(std::size_t index, const HiddenStates& states) {
    const fs::path file = folder_ / block_file_name(index);
    if (auto made = whole(file, progress_, [&] { return read_block_file(file, plan_.architecture, index); }))
      return *made;
    BlockWeights block = original_->block(index);
    for (std::size_t t = 0; t < transforms_.size(); ++t) {
      const Transform& transform = *transforms_[t];
      std::optional<BlockInputs> inputs;
      if (transform.needs_inputs()) inputs = measure(*forwards_[t], index, block, states);
      block = transform.block(std::move(block), index, inputs ? &*inputs : nullptr);
    }
    write_block_file(file, block, plan_.architecture);
    return block;
  }

  BlockInputs measure(const Forward& forward, std::size_t index, const BlockWeights& block,
                      const HiddenStates& states) const {
    BlockInputs inputs;
    HiddenStates copy = states.detached(folder_ / "states-once.f32");
    BlockPass pass(forward, copy);
    for (const Stage stage : stages_of(forward.architecture()))
      if (!stage.is_expert())
        inputs.stages[stage] = with_context(fmt::format("block {}, input of {}", index, name_of(stage)),
                                            [&] { return pass.measure(stage, block); });
    for (const LinearInfo& info : block_linears(forward.architecture())) inputs.grids[info.slot] = grid(index, info);
    return inputs;
  }

  /// Null where nothing is rounded, or to floats.
  std::shared_ptr<const Grid> grid(std::size_t index, const LinearInfo& info) const {
    const ModulePlan* module = plan_.find(module_name(index, info));
    if (!module->scheme) return nullptr;
    const auto& grid = plan_.schemes[*module->scheme].grid;
    return dtype_from_name(grid->name()) ? nullptr : grid;
  }

  const CompressionPlan& plan_;
  const OpenedModel& model_;
  Transforms transforms_;                         ///< of the plan; surveyed where they ask for it
  std::shared_ptr<const ModelWeights> original_;  ///< reshaped
  StatesLayout layout_;
  fs::path folder_;
  Progress& progress_;
  std::vector<std::unique_ptr<Forward>> forwards_;  ///< before each transform, and after the last
};

/// Under the key that config.json has for it: the one of Transformers 5, which holds theta too, or the older.
void set_rope(const Architecture& architecture, nlohmann::ordered_json& config) {
  const bool is_new = config.contains("rope_parameters") && !config["rope_parameters"].is_null();
  nlohmann::ordered_json scaling = rope_scaling(architecture);
  if (is_new) scaling["rope_theta"] = architecture.rope.theta;
  config[is_new ? "rope_parameters" : "rope_scaling"] = std::move(scaling);
}

/// A setting that config.json lost would change the arithmetic of whoever reads the result.
void require_said(const Architecture& meant, const std::string& text) {
  Architecture said = parse_architecture(nlohmann::json::parse(text), "config.json");
  said.tied = meant.tied;  // which tensors there are decides that
  said.tied_stated = meant.tied_stated;
  if (said != meant) fail(ErrorKind::internal, "config.json does not say what the transformed model is");
}

}  // namespace

bool needs_transform_pass(const CompressionPlan& plan) {
  return std::ranges::any_of(
      plan.transforms, [](const auto& transform) { return transform->needs_inputs() || transform->needs_survey(); });
}

std::shared_ptr<const ModelWeights> transformed_model(const CompressionPlan& plan, const OpenedModel& model,
                                                      const TokenWindows& windows, const StatesLayout& layout,
                                                      const fs::path& folder, Progress& progress) {
  if (plan.transforms.empty()) return model.weights;
  if (needs_transform_pass(plan)) return TransformPass(plan, model, layout, folder, progress).run(windows);
  return std::make_shared<const TransformedWeights>(model.weights, plan.transforms);
}

std::vector<StoreFile> transformed_files(const std::vector<StoreFile>& files, const Architecture& original,
                                         const Architecture& transformed) {
  std::vector<StoreFile> result = files;
  const auto config = std::ranges::find(result, "config.json", &StoreFile::name);
  if (config == result.end() || original == transformed) return result;
  auto json = nlohmann::ordered_json::parse(config->text);  // read before, when the model was opened
  if (transformed.tied != original.tied) json["tie_word_embeddings"] = transformed.tied;
  const SizeKeys& keys = transformed.info().sizes;
  const auto put = [&](bool changed, std::string_view key, const auto& value) {
    if (changed && !key.empty()) json[std::string(key)] = value;
  };
  const bool other_heads = transformed.heads != original.heads || transformed.kv_heads != original.kv_heads;
  put(transformed.layers != original.layers, keys.layers, transformed.layers);
  put(transformed.ffn != original.ffn, keys.ffn, transformed.ffn);
  put(transformed.hidden != original.hidden, keys.hidden, transformed.hidden);
  put(transformed.norm_eps != original.norm_eps, transformed.info().norm_eps_key, transformed.norm_eps);
  put(other_heads, keys.heads, transformed.heads);
  put(other_heads, keys.kv_heads, transformed.kv_heads);
  put(transformed.heads != original.heads || transformed.hidden != original.hidden ||
          transformed.head_dim != original.head_dim,
      keys.head_dim, transformed.head_dim);  // where it is not stated, it is derived from these two
  if (transformed.rope != original.rope) set_rope(transformed, json);
  const std::string_view scalar = transformed.info().scores.scalar_key;  // where it is not stated, it is the family's
  if (!scalar.empty() && transformed.head_dim != original.head_dim)
    json[std::string(scalar)] =
        transformed.score_scalar != 0 ? transformed.score_scalar : static_cast<double>(transformed.head_dim);
  if (const auto types = json.find("layer_types"); types != json.end() && types->is_array() && !types->empty())
    while (types->size() > transformed.layers) types->erase(types->size() - 1);  // all the same (require_equal_layers)
  config->text = json.dump(2) + "\n";
  require_said(transformed, config->text);
  return result;
}

}  // namespace adze
