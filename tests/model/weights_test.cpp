#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/memory_source.h"
#include "model/weights.h"

namespace adze {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::MemorySource;
using testing::random_source;
using testing::small_architecture;

template <typename Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_data);
    return error.message();
  }
  return "no error";
}

TEST(CheckpointWeights, GiveEveryTensorAsStored) {
  Architecture a = small_architecture();
  a.qkv_bias = a.mlp_bias = true;
  const auto source = std::make_shared<MemorySource>(random_source(a, DType::bf16));
  const CheckpointWeights model(a, source);
  const BlockWeights block = model.block(1);
  for (const LinearInfo& info : block_linears(a)) {
    const std::string name = "model." + module_name(1, info);
    const Linear& layer = block[info.slot];
    EXPECT_EQ(layer.weight->format(), "bf16");
    EXPECT_EQ(layer.weight->shape(), info.shape);
    const MatrixF decoded = layer.weight->decode();
    EXPECT_TRUE(std::ranges::equal(decoded.values(), source->values(name + ".weight"))) << name;
    EXPECT_EQ(layer.bias, info.has_bias ? source->values(name + ".bias") : std::vector<float>()) << name;
  }
  EXPECT_EQ(block[NormSlot::before_attention], source->values("model.layers.1.input_layernorm.weight"));
  EXPECT_EQ(block[NormSlot::before_ffn], source->values("model.layers.1.post_attention_layernorm.weight"));
  EXPECT_EQ(model.final_norm(), source->values("model.norm.weight"));
  const std::vector<float> table = source->values("model.embed_tokens.weight");
  const MatrixF decoded = model.embedding()->decode();
  EXPECT_TRUE(std::ranges::equal(decoded.values(), table));
}

TEST(CheckpointWeights, TheHeadIsTheEmbeddingOnlyWhenTied) {
  Architecture a = small_architecture();
  const auto source = std::make_shared<MemorySource>(random_source(a));
  EXPECT_FALSE(CheckpointWeights(a, source).head()->decode() == CheckpointWeights(a, source).embedding()->decode());
  source->remove("lm_head.weight");
  const CheckpointWeights tied(a, source);
  EXPECT_TRUE(tied.architecture().tied);
  EXPECT_TRUE(tied.head()->decode() == tied.embedding()->decode());
}

TEST(CheckpointWeights, RefuseNonFiniteValuesByName) {
  const Architecture a = small_architecture();
  const auto source = std::make_shared<MemorySource>(random_source(a));
  const CheckpointWeights model(a, source);
  const std::string name = "model.layers.1.mlp.gate_proj.weight";
  std::vector<float> values = source->values(name);
  values[37] = std::numeric_limits<float>::infinity();
  source->put(name, DType::bf16, {40, 24}, values);
  EXPECT_NO_THROW(model.block(0));
  EXPECT_THAT(error_of([&] { model.block(1); }),
              AllOf(HasSubstr("memory: tensor '" + name + "'"), HasSubstr("non-finite value inf at element 37")));
  std::vector<float> norm = source->values("model.norm.weight");
  norm[5] = std::numeric_limits<float>::quiet_NaN();
  source->put("model.norm.weight", DType::f32, {24}, norm);
  EXPECT_THAT(error_of([&] { model.final_norm(); }), HasSubstr("nan at element 5"));
}

TEST(CheckpointWeights, AreValidatedWhenOpened) {
  const Architecture a = small_architecture();
  const auto source = std::make_shared<MemorySource>(random_source(a));
  source->remove("model.norm.weight");
  EXPECT_THAT(error_of([&] { CheckpointWeights(a, source); }), HasSubstr("'model.norm.weight' is missing"));
}

TEST(LoadMatrix, RefusesAnotherNumberOfDimensions) {
  MemorySource source;
  source.put("w", DType::f32, {4}, std::vector<float>(4));
  EXPECT_THAT(error_of([&] { load_matrix(source, *source.find("w")); }), HasSubstr("1 dimensions instead of 2"));
  source.put("w", DType::f32, {2, 2}, std::vector<float>(4));
  EXPECT_THAT(error_of([&] { load_vector(source, *source.find("w")); }), HasSubstr("2 dimensions instead of 1"));
}

TEST(OpenCheckpointModel, ReadsTheDemoModel) {
  const auto model = open_checkpoint_model(ADZE_SOURCE_DIR "/tests/models/demo-llama");
  EXPECT_EQ(model->architecture().layers, 6u);
  EXPECT_TRUE(model->architecture().tied);
  EXPECT_EQ(model->block(5)[LinearSlot::down].weight->shape(), (Shape{256, 768}));
}

}  // namespace
}  // namespace adze
