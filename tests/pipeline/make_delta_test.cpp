// Deltas of a small fine-tuned model, from models to pack and back.
#include "pipeline/delta/make_delta.h"

#include <cmath>

#include "base/parallel.h"
#include "checkpoint/model_store.h"
#include "model/logits.h"
#include "model/pack/pack_weights.h"
#include "pipeline/pipeline_testing.h"
#include "pipeline/resolve_scheme.h"
#include "recipe/scheme_arguments.h"

namespace adze::testing {
namespace {

constexpr std::size_t kLinears = 7;  // of a block

/// Adds a small change of low rank and some noise to matrices whose name has `part` in it, and moves norms.
MemorySource tuned_source(const MemorySource& base, std::string_view part, bool norms) {
  MemorySource tuned = base;
  for (const TensorInfo& info : base.tensors()) {
    std::vector<float> values = base.values(info.name);
    if (info.shape.size() == 2 && info.name.find(part) != std::string::npos) {
      const auto rows = static_cast<std::size_t>(info.shape[0]), cols = static_cast<std::size_t>(info.shape[1]);
      const auto left = random_values(rows, info.name + "left"), right = random_values(cols, info.name + "right");
      const auto noise = random_values(rows * cols, info.name + "noise");
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] += 0.01f * left[i / cols] * right[i % cols] + 0.002f * noise[i];
    } else if (info.shape.size() == 1 && norms) {
      values[0] += 0.25f;
    }
    tuned.put(info.name, info.dtype, info.shape, values);
  }
  return tuned;
}

struct Pair {
  explicit Pair(std::string_view part = "layers.", bool norms = true, DType dtype = DType::f32)
      : site(false, dtype), tuned_values(tuned_source(site.source, part, norms)) {
    write_checkpoint(tuned(), site.architecture, tuned_values);
  }
  fs::path base() const { return site.model(); }
  fs::path tuned() const { return site / "tuned"; }
  fs::path delta(std::string_view name = "d.adze") const { return site / std::string(name); }

  /// Makes a delta of the models at these paths.
  std::vector<DeltaRecord> make(const DeltaMethod& method, const fs::path& from, const fs::path& out,
                                bool tables = false) const {
    const OpenedModel base = open_model(from), fine = open_model(tuned());
    const PreparedDelta prepared = prepare_delta(base, fine, method, std::nullopt, {tables}, silent_progress());
    std::vector<DeltaRecord> records = write_delta(prepared, out, silent_progress());
    EXPECT_EQ(fs::file_size(out), prepared.manifest.file_bytes);
    return records;
  }
  std::vector<DeltaRecord> make(const DeltaMethod& method) const { return make(method, base(), delta()); }

  Site site;
  MemorySource tuned_values;
};

OpenedModel opened(const fs::path& delta, const fs::path& base) {
  OpenModelOptions options;
  options.base = base;
  return open_model(delta, options);
}

std::unique_ptr<DeltaMethod> signs() { return sign_delta_method(SignScope::row, true); }

std::unique_ptr<DeltaMethod> by_solver(std::vector<SchemeArgument> arguments) {
  arguments.push_back({"--modules", "modules", "layers.**", true});
  const Recipe recipe = recipe_of(arguments);
  Diagnostics problems(recipe.source);
  const ResolvedScheme scheme = resolve_scheme(recipe.schemes.front(), problems);
  problems.throw_if_any();
  return solver_delta_method(scheme.solver, scheme.grid);
}

std::unique_ptr<DeltaMethod> full_rank() {
  return by_solver({{"--rank", "rank", "100%", false}, {"--solver", "solver", "svd", true}});
}

/// Largest difference of any value, relative to the largest change that the fine-tuning made to the same tensor.
double worst_difference(const ModelWeights& model, const MemorySource& tuned, const MemorySource& base) {
  double worst = 0;
  const CheckpointWeights meant(model.architecture(), std::make_shared<MemorySource>(tuned));
  const CheckpointWeights before(model.architecture(), std::make_shared<MemorySource>(base));
  for (std::size_t b = 0; b < model.architecture().layers; ++b) {
    const BlockWeights is = model.block(b), should = meant.block(b), was = before.block(b);
    EXPECT_EQ(is[NormSlot::before_attention], should[NormSlot::before_attention]);
    EXPECT_EQ(is[NormSlot::before_ffn], should[NormSlot::before_ffn]);
    for (const LinearInfo& info : block_linears(model.architecture())) {
      const MatrixF a = is[info.slot].weight->decode(), c = should[info.slot].weight->decode(),
                    w = was[info.slot].weight->decode();
      double change = 0, difference = 0;
      for (std::size_t i = 0; i < a.values().size(); ++i) {
        change = std::max(change, std::fabs(double{c.values()[i]} - w.values()[i]));
        difference = std::max(difference, std::fabs(double{c.values()[i]} - a.values()[i]));
      }
      if (change > 0) worst = std::max(worst, difference / change);
      if (change == 0) {
        EXPECT_EQ(a, w);
      }
    }
  }
  EXPECT_EQ(model.embedding()->decode(), meant.embedding()->decode());
  EXPECT_EQ(model.head()->decode(), meant.head()->decode());
  EXPECT_EQ(model.final_norm(), meant.final_norm());
  return worst;
}

TEST(MakeDelta, OfFullRankGivesTheFineTunedModelAgain) {
  const Pair pair;
  const std::vector<DeltaRecord> records = pair.make(*full_rank());
  const OpenedModel model = opened(pair.delta(), pair.base());
  EXPECT_LT(worst_difference(*model.weights, pair.tuned_values, pair.site.source), 2e-3) << "factors of f16";
  EXPECT_EQ(model.name, "tuned");
  EXPECT_TRUE(model.tokenizer.has_value());
  std::size_t deltas = 0;
  for (const DeltaRecord& record : records) {
    deltas += record.is_delta;
    if (!record.is_delta) continue;
    EXPECT_LT(record.report.relative_loss, 1e-5) << record.module;
    EXPECT_LT(record.relative_loss, record.report.relative_loss) << "a delta has less energy than its weights";
  }
  EXPECT_EQ(deltas, 2 * kLinears);
}

TEST(MakeDelta, OfTheBaseItselfIsNextToNothing) {
  const Pair pair("nothing", false);
  const std::vector<DeltaRecord> records = pair.make(*signs());
  std::uint64_t bytes = 0;
  for (const DeltaRecord& record : records) {
    EXPECT_EQ(record.format, kSameFormat);
    bytes += record.bytes;
  }
  EXPECT_EQ(bytes, 0u);
  const OpenedModel model = opened(pair.delta(), pair.base());
  std::uint64_t files = 0;
  for (const StoreFile& file : model.files) files += file.text.size();
  EXPECT_LT(fs::file_size(pair.delta()), files + 12000) << "the manifest";
  const OpenedModel base = open_model(pair.base());
  const std::vector<std::int32_t> ids = random_ids(12, base.architecture().vocab);
  EXPECT_EQ(logits_of(*model.weights, ids), logits_of(*base.weights, ids));
}

TEST(MakeDelta, StoresOnlyWhatDiffers) {
  const Pair pair("layers.1.mlp", false);
  std::size_t deltas = 0;
  for (const DeltaRecord& record : pair.make(*signs())) {
    EXPECT_EQ(record.is_delta, record.module.starts_with("layers.1.mlp")) << record.module;
    deltas += record.is_delta;
  }
  EXPECT_EQ(deltas, 3u);
  EXPECT_LT(worst_difference(*opened(pair.delta(), pair.base()).weights, pair.tuned_values, pair.site.source), 1);
}

TEST(MakeDelta, EveryMethodSaysItsLossAndSize) {
  const Pair pair("layers.", false);
  const auto mean = [&](const DeltaMethod& method) {
    double sum = 0;
    for (const DeltaRecord& record : pair.make(method, pair.base(), pair.delta())) sum += record.report.relative_loss;
    return sum / (2 * kLinears);
  };
  const double by_row = mean(*signs());
  EXPECT_GT(by_row, 0.1);
  EXPECT_LT(by_row, mean(*sign_delta_method(SignScope::matrix, true)));
  EXPECT_LT(mean(*by_solver({{"--rank", "rank", "1", false}, {"--solver", "solver", "svd", true}})), 0.1)
      << "most of the change is of rank 1";
  EXPECT_LT(
      mean(*by_solver(
          {{"--grid", "grid", "int4", true}, {"--group", "group", "16", false}, {"--solver", "solver", "rtn", true}})),
      0.02);
  const double kept_half = mean(*drop_delta_method(0.5, 1, true));
  EXPECT_GT(kept_half, 0.2);
  EXPECT_LT(kept_half, mean(*drop_delta_method(0.5, 1, false)));
  for (const DeltaRecord& record : pair.make(*drop_delta_method(0.5, 1, false), pair.base(), pair.delta()))
    EXPECT_NEAR(record.relative_loss, record.relative_variance, 0.5 * record.relative_variance) << record.module;
}

TEST(MakeDelta, TablesAreStoredInFullOrAsDeltas) {
  const Pair pair("embed_tokens", false, DType::bf16);
  const std::vector<DeltaRecord> full = pair.make(*signs());
  EXPECT_EQ(full.front().format, "bf16");
  EXPECT_FALSE(full.front().is_delta);
  const std::vector<DeltaRecord> delta = pair.make(*signs(), pair.base(), pair.delta("t.adze"), true);
  EXPECT_EQ(delta.front().format, "signs per row");
  EXPECT_LT(fs::file_size(pair.delta("t.adze")), fs::file_size(pair.delta()));
}

std::string bytes_of_delta(const Pair& pair, const DeltaMethod& method, const fs::path& base) {
  pair.make(method, base, pair.delta());
  std::string bytes = read_file(pair.delta());
  fs::remove(pair.delta());
  return bytes;
}

TEST(MakeDelta, GivesTheSameBytesForAnyNumberOfThreads) {
  const Pair pair;
  for (const auto& method : {signs(), drop_delta_method(0.9, 5, true), full_rank()}) {
    set_thread_count(1);
    const std::string one = bytes_of_delta(pair, *method, pair.base());
    set_thread_count(3);
    EXPECT_TRUE(bytes_of_delta(pair, *method, pair.base()) == one) << method->description();
  }
  set_thread_count(0);
  EXPECT_FALSE(bytes_of_delta(pair, *drop_delta_method(0.9, 5, true), pair.base()) ==
               bytes_of_delta(pair, *drop_delta_method(0.9, 6, true), pair.base()));
}

TEST(MakeDelta, ABaseIsTheSameAsAFolderAndAsAStore) {
  const Pair pair("layers.", true, DType::bf16);
  const fs::path store = pair.site / "base.h5", elsewhere = pair.site / "as-floats";
  const OpenedModel base = open_model(pair.base());
  ModelStoreContents contents{base.files, {}};
  for (const TensorInfo& tensor : base.require_source().tensors()) contents.canonical[tensor.name] = tensor.name;
  write_model_store(store, contents, base.require_source(), false, silent_progress());
  MemorySource floats;  // another dtype, the same values
  for (const TensorInfo& info : pair.site.source.tensors())
    floats.put(info.name, DType::f32, info.shape, pair.site.source.values(info.name));
  write_checkpoint(elsewhere, pair.site.architecture, floats);
  EXPECT_TRUE(bytes_of_delta(pair, *signs(), store) == bytes_of_delta(pair, *signs(), pair.base()));
  pair.make(*signs(), store, pair.delta());
  const MatrixF meant = opened(pair.delta(), pair.base()).weights->block(1)[LinearSlot::up].weight->decode();
  for (const fs::path& other : {store, elsewhere})
    EXPECT_EQ(opened(pair.delta(), other).weights->block(1)[LinearSlot::up].weight->decode(), meant) << other;
}

TEST(MakeDelta, AWrongOrMissingBaseIsRefused) {
  const Pair pair("layers.", false);
  pair.make(*signs());
  expect_error(ErrorKind::missing_input, "from 'model' (hash ", [&] { open_model(pair.delta()); });
  expect_error(ErrorKind::missing_input, "--base", [&] { open_model(pair.delta()); });
  expect_error(ErrorKind::missing_input, "--base", [&] { opened(pair.delta(), pair.delta()); });
  // The fine-tuned model has the base's norms: only its matrices tell.
  const OpenedModel wrong = opened(pair.delta(), pair.tuned());
  expect_error(ErrorKind::bad_data, "its tensor 'model.layers.1.self_attn.q_proj.weight'",
               [&] { wrong.weights->block(1); });
  const Pair moved("layers.", true);
  expect_error(ErrorKind::bad_data, "tuned is not the base of this delta, which is 'model': its tensor",
               [&] { opened(pair.delta(), moved.tuned()); });
}

void expect_unlike(const Pair& pair, std::string_view words) {
  const OpenedModel base = open_model(pair.base()), tuned = open_model(pair.tuned());
  expect_error(ErrorKind::bad_data, words,
               [&] { prepare_delta(base, tuned, *signs(), std::nullopt, {}, silent_progress()); });
}

TEST(MakeDelta, ModelsThatDifferInMoreThanWeightsAreRefused) {
  const Pair pair;
  Architecture narrow = pair.site.architecture;
  narrow.ffn = 32;
  fs::remove_all(pair.tuned());
  write_checkpoint(pair.tuned(), narrow, random_source(narrow));
  expect_unlike(pair, "ffn is 64 and 32");
  fs::remove_all(pair.tuned());
  write_checkpoint(pair.tuned(), pair.site.architecture, pair.tuned_values);
  std::string tokenizer = read_file(pair.tuned() / "tokenizer.json");
  std::size_t changed = 0;  // an added token, here and in the vocabulary
  for (std::size_t at = 0; (at = tokenizer.find("<|bos|>", at)) != std::string::npos; ++changed)
    tokenizer[at + 4] = 'z';
  ASSERT_GT(changed, 0u);
  std::ofstream(pair.tuned() / "tokenizer.json") << tokenizer;
  expect_unlike(pair, "their vocabularies differ at id");
}

TEST(MakeDelta, WhatAMethodCannotMakeIsRefusedByName) {
  const Pair pair;
  const OpenedModel base = open_model(pair.base()), tuned = open_model(pair.tuned());
  const auto method = by_solver(
      {{"--grid", "grid", "int4", true}, {"--group", "group", "48", false}, {"--solver", "solver", "rtn", true}});
  expect_error(ErrorKind::bad_data, "tensor 'model.layers.0.self_attn.q_proj.weight'",
               [&] { prepare_delta(base, tuned, *method, std::nullopt, {}, silent_progress()); });
}

struct Warnings final : Progress {
  void start(std::string_view, std::uint64_t) override {}
  void update(std::uint64_t) override {}
  void warn(const std::string& message) override { all += message; }
  void note(const std::string&) override {}
  std::string all;
};

/// Weights that fine-tuning has replaced outright cannot lose nine tenths of their change.
TEST(MakeDelta, WarnsOfDroppingFromWhatIsNoSmallEdit) {
  const Pair pair;
  fs::remove_all(pair.tuned());
  write_checkpoint(pair.tuned(), pair.site.architecture, random_source(pair.site.architecture, DType::f32, "other"));
  const OpenedModel base = open_model(pair.base()), tuned = open_model(pair.tuned());
  for (const double probability : {0.9, 0.01}) {
    Warnings warnings;
    const auto method = drop_delta_method(probability, 0, true);
    const PreparedDelta prepared = prepare_delta(base, tuned, *method, std::nullopt, {}, warnings);
    write_delta(prepared, pair.site / fmt::format("{}.adze", probability), warnings);
    if (probability > 0.5)
      EXPECT_THAT(warnings.all, ::testing::HasSubstr("14 matrices differ by more than DARE is good for"));
    else
      EXPECT_EQ(warnings.all, "");
  }
}

}  // namespace
}  // namespace adze::testing
