// Prices of options: that they are those of whole files, and that they take as much work as there are modules.
#include "pipeline/allocation/file_size.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "base/random.h"
#include "export/export_testing.h"
#include "model/random_checkpoint.h"

namespace adze::testing {
namespace {

Architecture mixture(std::size_t layers, std::size_t experts) {
  auto config = family_case("mixtral").config;
  config["num_hidden_layers"] = layers;
  config["num_local_experts"] = experts;
  return parse_architecture(config, "config.json");
}

/// Matrices in `format`, of a model with the demo's tokenizer. References all arguments but the format.
ExportPlan plan_in(const std::string& format, const Architecture& architecture, const std::vector<StoreFile>& files) {
  ExportPlan plan{architecture, {}, &demo().tokenizer, files, "test model", {{"adze.version", "1"}}};
  for (const TensorSpec& spec : expected_tensors(architecture))
    plan.tensors.push_back({spec, !spec.is_matrix() ? "f32" : spec.role == TensorRole::linear ? format : "bf16"});
  return plan;
}

/// Every linear of blocks, with these formats to choose among.
std::vector<ModuleChoice> choices(const ExportPlan& plan, const std::vector<std::string>& formats) {
  std::vector<ModuleChoice> modules;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.spec.role != TensorRole::linear) continue;
    ModuleChoice& module = modules.emplace_back();
    module.module = tensor.spec.module;
    for (const std::string& format : formats) module.options.emplace_back().format = format;
  }
  return modules;
}

std::uint64_t priced(std::uint64_t fixed, const std::vector<ModuleChoice>& modules) {
  for (const ModuleChoice& module : modules) fixed += module.option().cost;
  return fixed;
}

/// As allocation does: linears that lie in one tensor of the file take the same.
void choose_at_random(RandomStream& random, const ExportPlan& plan, bool stacks, std::vector<ModuleChoice>& modules) {
  std::map<std::string, std::size_t> chosen;
  std::size_t m = 0;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.spec.role != TensorRole::linear) continue;
    const std::string name = stacks ? tensor.spec.gguf_name : tensor.spec.module;
    const std::size_t option = random.below(modules[m].options.size());
    modules[m++].chosen = chosen.emplace(name, option).first->second;
  }
}

/// A format whose files are a head, and for each tensor (or stack of experts) of them its values and 10 bytes.
class CountingExporter final : public Exporter {
 public:
  explicit CountingExporter(bool stacks) : stacks_(stacks) {}

  std::optional<std::string> cannot_hold(const Architecture&, const PlannedTensor&) const override { return {}; }
  std::optional<std::string> remark(const Architecture&, const PlannedTensor&) const override { return {}; }
  bool stacks_experts() const override { return stacks_; }

  std::uint64_t predict_bytes(const ExportPlan& plan) const override {
    ++whole;
    std::uint64_t bytes = 100;
    for (const PlannedTensor& tensor : plan.tensors) {
      const bool is_counted = !stacks_ || !tensor.spec.shares_gguf_tensor() || tensor.spec.slot->expert == 0;
      if (tensor.spec.is_matrix() && is_counted) bytes += bytes_of(plan.architecture, tensor);
    }
    return bytes;
  }
  OwnBytes own_bytes(const ExportPlan& plan) const override {
    return [this, &plan](const PlannedTensor& tensor) {
      ++own;
      return bytes_of(plan.architecture, tensor);
    };
  }
  std::vector<std::filesystem::path> files(const ExportPlan&, const std::filesystem::path&) const override {
    return {};
  }
  void write(const ExportPlan&, const ModelWeights&, const std::filesystem::path&, Progress&) const override {}

  mutable std::size_t whole = 0, own = 0;

 private:
  std::uint64_t bytes_of(const Architecture& architecture, const PlannedTensor& tensor) const {
    const std::uint64_t one = 10 + tensor.spec.shape[0] * tensor.spec.shape[1] * tensor.format.size();
    return stacks_ && tensor.spec.shares_gguf_tensor() ? one * architecture.experts : one;
  }

  bool stacks_;
};

class Prices : public ::testing::TestWithParam<bool> {};

TEST_P(Prices, TakeOnePredictionOfEachTensorOfTheFileAndOptionHoweverManyModulesThereAre) {
  const bool stacks = GetParam();
  const std::vector<std::string> formats{"a", "bb", "ccc", "dddd"};
  for (const auto& [layers, experts] : {std::pair<std::size_t, std::size_t>{2, 4}, {2, 16}, {6, 4}, {12, 64}}) {
    const Architecture architecture = mixture(layers, experts);
    const auto exporter = std::make_shared<CountingExporter>(stacks);
    const ExportPlan plan = plan_in("a", architecture, demo().files);
    std::vector<ModuleChoice> modules = choices(plan, formats);
    ASSERT_EQ(modules.size(), layers * (4 + 3 * experts));
    FileSize file(plan, exporter);
    const std::uint64_t fixed = price_options(file, modules);
    EXPECT_EQ(exporter->whole, formats.size());  // the file, and what each format is beside the first
    EXPECT_EQ(exporter->own, formats.size() * layers * (4 + 3 * (stacks ? 1 : experts)));
    RandomStream random(layers, "prices");
    for (int i = 0; i < 5; ++i) {
      choose_at_random(random, plan, stacks, modules);
      for (const ModuleChoice& module : modules) file.set(module.module, module.option().format);
      EXPECT_EQ(file.bytes(), priced(fixed, modules));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(WithAndWithoutStacks, Prices, ::testing::Bool());

struct Setting {
  std::string exporter;
  std::vector<std::string> formats;
  std::uint64_t most_apart;  ///< bytes a module: what files share besides, such as lists of names
};
void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.exporter; }

class PricesOfTheDemo : public ::testing::TestWithParam<Setting> {};

/// Whole files of any choice are what prices say: of a GGUF to the byte, of others to what their formats share. A file
/// in which modules are set is that of a plan which had them so from the beginning, whatever the exporter.
TEST_P(PricesOfTheDemo, AreThoseOfWholeFiles) {
  const Setting& setting = GetParam();
  const std::shared_ptr<const Exporter> exporter = find_exporter(setting.exporter)->make();
  const ExportPlan plan = plan_in(setting.formats.front(), demo().model->architecture(), demo().files);
  std::vector<ModuleChoice> modules = choices(plan, setting.formats);
  FileSize file(plan, exporter);
  const std::uint64_t fixed = price_options(file, modules);
  EXPECT_EQ(priced(fixed, modules), exporter->predict_bytes(plan));
  RandomStream random(1, setting.exporter);
  for (int i = 0; i < 5; ++i) {
    choose_at_random(random, plan, exporter->stacks_experts(), modules);
    ExportPlan chosen = plan;
    std::size_t m = 0;
    for (PlannedTensor& tensor : chosen.tensors)
      if (tensor.spec.role == TensorRole::linear) tensor.format = modules[m++].option().format;
    for (const ModuleChoice& module : modules) file.set(module.module, module.option().format);
    const std::uint64_t whole = exporter->predict_bytes(chosen), sum = priced(fixed, modules);
    EXPECT_EQ(file.bytes(), whole);
    EXPECT_LE(std::max(whole, sum) - std::min(whole, sum), setting.most_apart * modules.size()) << whole << " " << sum;
  }
}

const std::vector<std::string> kIntegers{"int4 g32 sym", "int4 g128 sym", "int8 g32 sym", "bf16"};

INSTANTIATE_TEST_SUITE_P(
    Exporters, PricesOfTheDemo,
    ::testing::Values(Setting{"gguf", {"gguf/q4_k", "gguf/q6_k", "int4 g32 sym", "bf16", "gguf/iq4_xs"}, 0},
                      Setting{"pack", {"gguf/q4_k", "int4 g128 sym", "int8 g32 sym", "bf16"}, 8},
                      Setting{"safetensors", {"gguf/q4_k", "f32", "f16"}, 32},
                      Setting{"compressed-tensors", kIntegers, 200}, Setting{"gptq", kIntegers, 400},
                      Setting{"mlx", kIntegers, 400},
                      Setting{"onnx", {"int4 g32 sym", "int4 g32 asym", "int8 g32 sym", "f16"}, 2048},
                      Setting{"onnx-qdq", {"int4 g32 sym", "int4 g32 asym", "int8 g32 sym", "f16"}, 2048}),
    [](const auto& test) {
      std::string name = test.param.exporter;
      std::erase(name, '-');
      return name;
    });

/// Experts of a block are one tensor of the file.
TEST(PricesOfAGguf, AreThoseOfWholeFilesWithExperts) {
  const Architecture architecture = mixture(2, 4);
  const std::shared_ptr<const Exporter> exporter = find_exporter("gguf")->make();
  const ExportPlan plan = plan_in("bf16", architecture, demo().files);
  std::vector<ModuleChoice> modules = choices(plan, {"bf16", "gguf/q8_0", "gguf/q4_0", "int4 g32 sym"});
  FileSize file(plan, exporter);
  const std::uint64_t fixed = price_options(file, modules);
  RandomStream random(2, "experts");
  for (int i = 0; i < 10; ++i) {
    choose_at_random(random, plan, true, modules);
    for (const ModuleChoice& module : modules) file.set(module.module, module.option().format);
    EXPECT_EQ(file.bytes(), priced(fixed, modules));
  }
}

/// Parts of a split file have heads of their own, which are in no price.
TEST(PricesOfAGguf, LeaveOutTheHeadsOfParts) {
  const std::shared_ptr<const Exporter> exporter = find_exporter("gguf")->make();
  ExportPlan plan = plan_in("bf16", demo().model->architecture(), demo().files);
  plan.split_max_bytes = 3'000'000;
  std::vector<ModuleChoice> modules = choices(plan, {"bf16", "gguf/q2_k"});
  FileSize file(plan, exporter);
  const std::uint64_t fixed = price_options(file, modules);
  for (ModuleChoice& module : modules) {
    module.chosen = 1;
    file.set(module.module, "gguf/q2_k");
  }
  EXPECT_LE(file.bytes(), priced(fixed, modules));
  EXPECT_GE(file.bytes() + 4096, priced(fixed, modules));
}

TEST(FileSize, RefusesMixturesThatAFormatDoesNotHold) {
  const ExportPlan plan = plan_in("int4 g32 sym", demo().model->architecture(), demo().files);
  FileSize file(plan, find_exporter("gptq")->make());
  EXPECT_NO_THROW(file.check_mixture("layers.0.mlp.up_proj", "int8 g32 sym"));
  EXPECT_THROW(file.check_mixture("layers.0.mlp.up_proj", "int4 g32 asym"), Error);
  EXPECT_EQ(file.bytes(), find_exporter("gptq")->make()->predict_bytes(plan));  // as it was
  EXPECT_THROW(file.set("layers.0.mlp.upproj", "bf16"), Error);
}

}  // namespace
}  // namespace adze::testing
