#include "calibrate/calibrate.h"

#include <algorithm>
#include <memory>

#include <fmt/ranges.h>

#include "base/background.h"
#include "base/error.h"
#include "base/hash.h"
#include "calibrate/block_pass.h"
#include "calibrate/pass_memory.h"

namespace adze {
namespace {

void add_weights(Hasher& hasher, const CompressedTensor& tensor) {
  hasher.add(fmt::format("{} {} {}\n", tensor.format(), tensor.shape().rows, tensor.shape().cols));
  hasher.add(tensor.payload());
}

void add_weights(Hasher& hasher, std::span<const float> values) {
  hasher.add(fmt::format("f32 {}\n", values.size()));
  hasher.add(std::as_bytes(values));
}

void add_weights(Hasher& hasher, const BlockWeights& block) {
  for (const auto* const vectors : {&block.norms, &block.norm_biases})
    for (const std::vector<float>& norm : *vectors)
      if (!norm.empty()) add_weights(hasher, norm);
  block.for_each_linear([&](const Linear& linear) {
    add_weights(hasher, *linear.weight);
    add_weights(hasher, linear.bias);
  });
}

/// What a pass computes beside its weights, as text.
std::string settings_of(const Architecture& a) {
  std::string layers;
  for (std::size_t i = 0; i < a.layers; ++i) layers += a.sees_all(i) ? '1' : '0';
  const auto rope = [](const RopeSpec& r) {
    return fmt::format("{} {} {} {} {} {} {} {} {} [{}] [{}]", static_cast<int>(r.kind), r.theta, r.factor,
                       r.low_freq_factor, r.high_freq_factor, r.original_max_positions, r.beta_fast, r.beta_slow,
                       r.attention_factor, fmt::join(r.divisors, " "), fmt::join(r.long_divisors, " "));
  };
  const std::string mixture = a.is_mixture() ? fmt::format(" experts {} of {} {}", a.experts_per_token, a.experts,
                                                           a.renormalised ? "renormalised" : "as scored")
                                             : "";
  const std::string rotated = a.rotary_dim > 0 ? fmt::format(" rotated {}", a.rotary_dim) : "";
  const std::string layer = a.info().norm_kind == NormKind::layer ? "mean subtracted " : "";
  return layer +
         fmt::format("eps {} offset {} rope {} / {} window {} {} activation {} embedding {} scores {} {} {}{}{}\n",
                     a.norm_eps, a.info().norm_offset, rope(a.rope), a.sliding_rope ? rope(*a.sliding_rope) : "",
                     a.sliding_window, layers, static_cast<int>(a.activation), a.embedding_scale, a.score_scalar,
                     a.attention_cap, a.final_cap, mixture, rotated);
}

StatesLayout states_layout(const Architecture& architecture, const TokenWindows& windows,
                           const CalibrateOptions& options) {
  const std::size_t batch = options.batch_windows > 0 ? options.batch_windows : batch_windows(windows.tokens);
  return {windows.count(), windows.tokens, architecture.hidden, batch, options.states_on_disk};
}

class Calibration {
 public:
  Calibration(const ModelWeights& model, const std::string& name, const TokenWindows& windows,
              const CalibrateOptions& options, Progress& progress)
      : model_(model),
        windows_(windows),
        progress_(progress),
        layers_(model.architecture().layers),
        stages_(stages_of(model.architecture())),
        info_(describe_statistics(model.architecture(), name, windows, options.experts)),
        output_(options.out, info_, options.overwrite),
        forward_(model.architecture(), windows.tokens),
        states_(states_layout(model.architecture(), windows, options)),
        together_(options.together),
        experts_(options.experts),
        blocks_(options.blocks) {
    states_.begin(options.out / kStatesFileName);
  }

  CalibrateResult run() {
    output_.begin();
    std::filesystem::remove(output_.folder() / (std::string(kStatesFileName) + ".tmp"));  // of a run that was killed
    std::size_t wanted = 0, missing = 0;
    for (std::size_t part = 0; part <= layers_; ++part) {
      wanted += is_wanted(part);
      missing += is_wanted(part) && !output_.is_done(part);
    }
    progress_.start("calibrating", (layers_ + 1) * stages_.size());
    embed_text();
    for (std::size_t block = 0; block < layers_; ++block) do_block(block, measured_ < missing);
    do_head();
    committing_.wait();
    progress_.update((layers_ + 1) * stages_.size());
    return {measured_, wanted - missing};
  }

 private:
  /// A block that was asked for, or the head.
  bool is_wanted(std::size_t part) const {
    return blocks_.empty() || part == layers_ || std::ranges::find(blocks_, part) != blocks_.end();
  }

  void embed_text() {
    const InputTables tables = input_tables(model_);
    hasher_.add(settings_of(model_.architecture()));
    add_weights(hasher_, *tables.tokens);
    if (tables.positions) add_weights(hasher_, *tables.positions);
    embed_windows(forward_, tables, windows_.ids, states_);
  }

  /// needed: this or a later part has to be measured. Otherwise the block's weights are checked only.
  void do_block(std::size_t block, bool needed) {
    const BlockWeights weights = model_.block(block);
    add_weights(hasher_, weights);
    output_.check_weights(block, hasher_.hex());
    if (is_wanted(block) && !output_.is_done(block)) {
      measure_block(block, weights);
    } else if (needed) {
      if (output_.is_done(block)) progress_.note(fmt::format("block {} is measured already", block));
      run_block(forward_, weights, states_);
    }
    progress_.update((block + 1) * stages_.size());
  }

  void measure_block(std::size_t block, const BlockWeights& weights) {
    auto writer = std::make_unique<StatisticsWriter>(output_.folder(), info_, block, hasher_.hex());
    BlockPass pass(forward_, states_, experts_);
    if (together_) {
      std::size_t done = block * stages_.size();
      with_context(fmt::format("block {}", block), [&] {
        pass.measure_all(weights, [&](Stage stage, const InputStatistics& measured) {
          writer->add(name_of(stage), measured);
          progress_.update(++done);
        });
      });
    } else {
      measure_stages(block, weights, pass, *writer);
    }
    commit(std::move(writer));
  }

  /// Beside the measurement of the next part: what is written waits for the disk, holds no moments, and computes
  /// little.
  void commit(std::unique_ptr<StatisticsWriter> writer) {
    committing_.run([writer = std::move(writer)] { writer->commit(); });
    ++measured_;
  }

  void measure_stages(std::size_t block, const BlockWeights& weights, BlockPass& pass, StatisticsWriter& writer) {
    std::size_t done = block * stages_.size();
    for (const Stage stage : stages_) {
      const std::string input = name_of(stage);
      with_context(fmt::format("block {}, input of {}", block, input),
                   [&] { writer.add(input, pass.measure(stage, weights)); });
      progress_.update(++done);
    }
    pass.finish(weights);
  }

  void do_head() {
    const Norm norm = norm_of(model_);
    add_weights(hasher_, norm.weight);
    if (!norm.bias.empty()) add_weights(hasher_, norm.bias);
    output_.check_weights(layers_, hasher_.hex());
    if (output_.is_done(layers_)) return;
    auto writer = std::make_unique<StatisticsWriter>(output_.folder(), info_, layers_, hasher_.hex());
    with_context("input of the head", [&] { writer->add("head", measure_head_input(forward_, norm, states_)); });
    commit(std::move(writer));
  }

  const ModelWeights& model_;
  const TokenWindows& windows_;
  Progress& progress_;
  std::size_t layers_;
  std::vector<Stage> stages_;
  StatisticsInfo info_;
  StatisticsOutput output_;
  Forward forward_;
  Hasher hasher_;  ///< of everything that decided states_
  HiddenStates states_;
  bool together_;
  ExpertInputs experts_;
  std::vector<std::size_t> blocks_;  ///< CalibrateOptions
  std::size_t measured_ = 0;
  Background committing_;  ///< of the part measured last; ended before output_ gives up its lock
};

std::uint64_t input_bytes(std::uint64_t n) {
  return n * (n + 1) / 2 * sizeof(double) + n * (2 * sizeof(double) + sizeof(float));
}

}  // namespace

void check_window_length(const Architecture& architecture, std::size_t tokens) {
  if (tokens > architecture.max_positions)
    fail(ErrorKind::usage, "windows of {} tokens do not fit the model's context of {}; lower --tokens", tokens,
         architecture.max_positions);
}

CalibrateResult calibrate(const ModelWeights& model, const std::string& name, const TokenWindows& windows,
                          const CalibrateOptions& options, Progress& progress) {
  check_window_length(model.architecture(), windows.tokens);
  if (windows.count() == 0) fail(ErrorKind::internal, "calibration without windows");
  return Calibration(model, name, windows, options, progress).run();
}

CalibratePrediction predict_calibration(const Architecture& architecture, const StatesLayout& layout, bool together) {
  constexpr std::uint64_t kStoredBytes = sizeof(std::uint16_t);  // of a weight, as checkpoints mostly have them
  CalibratePrediction prediction;
  std::uint64_t block_weights = 0, measuring = 0, moments = 0;
  for (const LinearInfo& info : block_linears(architecture)) block_weights += info.shape.count();
  for (const Stage stage : stages_of(architecture)) {
    const std::uint64_t inputs = width_of(architecture, stage);
    prediction.disk += input_bytes(inputs);
    if (!stage.is_expert()) moments += moment_bytes(inputs);
    if (!stage.is_expert() && together) continue;
    measuring = std::max(measuring, moment_bytes(inputs) + measuring_bytes(architecture, stage, layout));
  }
  if (together) measuring = std::max(measuring, moments + measuring_all_bytes(architecture, layout));
  prediction.disk = prediction.disk * architecture.layers + input_bytes(architecture.hidden);
  const std::uint64_t table = std::uint64_t{architecture.vocab} * architecture.hidden * kStoredBytes;
  prediction.memory =
      program_bytes(architecture) + states_bytes(layout) + std::max(table, block_weights * kStoredBytes + measuring);
  return prediction;
}

}  // namespace adze
