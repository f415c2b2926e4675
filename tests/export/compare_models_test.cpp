// The check at the end of exports: what was noted is not read again, what differs is named with its place, and what is
// only stored otherwise is no difference.
#include "export/compare_models.h"

#include <atomic>

#include "base/hash.h"
#include "export/export_testing.h"
#include "grid/format.h"

namespace adze {
namespace {

using namespace testing;

/// A model that counts how often its blocks are read, and lets one value of block 1's up projection be changed.
class Watched final : public FormattedModel {
 public:
  Watched(const ModelWeights& base, const std::string& format, float change = 0)
      : FormattedModel(base, linears_in(format, "f16")), change_(change) {}
  BlockWeights block(std::size_t index) const override {
    ++reads;
    BlockWeights block = FormattedModel::block(index);
    if (change_ == 0 || index != 1) return block;
    MatrixF weights = block[LinearSlot::up].weight->decode();
    weights(70, 5) += change_;
    block[LinearSlot::up].weight = std::make_shared<DenseTensor>(make_dense(weights, DType::f32));
    return block;
  }

  mutable std::atomic<int> reads = 0;

 private:
  float change_;
};

struct Compared {
  explicit Compared(const Watched& model)
      : plan{model.architecture(), planned_tensors(model), nullptr, {}, "test", {}}, meant(plan.tensors.size()) {
    TensorWalk walk(model);
    for (std::size_t t = 0; t < plan.tensors.size(); ++t) meant.note(t, walk.at(plan.tensors[t].spec));
    model.reads = 0;
  }
  void run(const ModelWeights& written, const ModelWeights& model, const MeantTensors& notes) const {
    compare_models(
        plan, written, model, [](const TensorPtr& matrix) { return matrix; }, notes, "out", silent_progress());
  }

  ExportPlan plan;
  MeantTensors meant;
};

const ModelWeights& base() {
  static const CheckpointWeights model = random_model(rich_architecture());
  return model;
}

TEST(CompareModels, WhatWasNotedIsNotReadAgain) {
  const Watched model(base(), "int4 g64 sym"), written(base(), "int4 g64 sym");
  const Compared compared(model);
  compared.run(written, model, compared.meant);
  const int reads = written.reads;
  EXPECT_EQ(model.reads, 0);
  EXPECT_GT(reads, 0);
  compared.run(written, model, MeantTensors(compared.plan.tensors.size()));
  EXPECT_EQ(model.reads, reads);
}

TEST(CompareModels, OneValueThatDiffersIsNamed) {
  const Watched model(base(), "f32"), written(base(), "f32", 0.5f);
  const Compared compared(model);
  expect_error(ErrorKind::internal, "out: tensor 'model.layers.1.mlp.up_proj.weight': row 70, column 5:", [&] {
    compared.run(written, model, compared.meant);
  });
  expect_error(ErrorKind::internal,
               "row 70, column 5:", [&] { compared.run(written, model, MeantTensors(compared.plan.tensors.size())); });
}

/// A model of which one byte of block 1's up projection is another.
class Spoiled final : public FormattedModel {
 public:
  Spoiled(const ModelWeights& base, const std::string& format, std::size_t byte)
      : FormattedModel(base, linears_in(format, "f16")), byte_(byte) {}
  BlockWeights block(std::size_t index) const override {
    BlockWeights block = FormattedModel::block(index);
    if (index != 1) return block;
    TensorPtr& up = block[LinearSlot::up].weight;
    std::vector<std::byte> bytes(up->payload().begin(), up->payload().end());
    bytes[byte_] ^= std::byte{1};
    up = tensor_from_payload(up->format(), up->shape(), std::move(bytes));
    return block;
  }

 private:
  std::size_t byte_;
};

TEST(CompareModels, ASpoiledScaleZeroPointOrCodeIsFound) {
  const std::string format = "int4 g64 asym";
  const Watched model(base(), format);
  const Compared compared(model);
  const TensorPtr up = model.block(1)[LinearSlot::up].weight;
  const std::size_t row = up->payload().size() / up->shape().rows, groups = up->shape().cols / 64;
  const std::size_t zeros = 2 * groups, codes = zeros + (groups + 1) / 2;
  for (const std::size_t byte : {std::size_t{0}, zeros, codes, row - 1}) {
    const Spoiled written(base(), format, 70 * row + byte);
    for (const MeantTensors& notes : {compared.meant, MeantTensors(compared.plan.tensors.size())})
      expect_error(ErrorKind::internal, "out: tensor 'model.layers.1.mlp.up_proj.weight': row 70, column ",
                   [&] { compared.run(written, model, notes); });
  }
}

TEST(CompareModels, TheSameValuesStoredOtherwiseAreNoDifference) {
  const Watched model(base(), "bf16");
  const FormattedModel rounded(base(), linears_in("bf16", "f16"));
  const Watched written(rounded, "f32");  // bytes and format differ, no value does
  const Compared compared(model);
  compared.run(written, model, compared.meant);
  EXPECT_GT(model.reads, 0);
}

TEST(MeantTensors, KeepTheFirstNote) {
  MeantTensors meant(2);
  const std::vector<std::byte> bytes{std::byte{1}}, others{std::byte{2}};
  EXPECT_FALSE(meant.is(0, "f16", bytes));
  meant.note(0, "f16", bytes);
  meant.note(0, "f16", others);
  EXPECT_EQ(meant.hash(0), hash_hex(bytes));
  EXPECT_TRUE(meant.is(0, "f16", bytes));
  EXPECT_FALSE(meant.is(0, "f16", others));
  EXPECT_FALSE(meant.is(0, "bf16", bytes));
  EXPECT_FALSE(meant.is(1, "f16", bytes));
}

}  // namespace
}  // namespace adze
