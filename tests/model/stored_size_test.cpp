// Bytes by class against sums over the table of tensors, on tied and untied models.
#include "model/stored_size.h"

#include <numeric>

#include <gtest/gtest.h>

#include "model/memory_source.h"

namespace adze {
namespace {

using testing::random_model;
using testing::small_architecture;

std::uint64_t weights_of(const Architecture& architecture, auto&& wanted) {
  std::uint64_t sum = 0;
  for (const TensorSpec& spec : expected_tensors(architecture))
    if (wanted(spec)) sum += std::accumulate(spec.shape.begin(), spec.shape.end(), std::uint64_t{1}, std::multiplies{});
  return sum;
}

TEST(SizeByClass, CountsEveryTensorOnce) {
  for (const bool tied : {false, true}) {
    Architecture a = small_architecture();
    a.tied = tied;
    a.qkv_bias = a.o_bias = true;
    const auto model = random_model(a, DType::bf16);
    const SizeByClass size = size_by_class(model);
    const std::uint64_t attention =
        weights_of(a, [](const TensorSpec& s) { return s.hf_name.find("self_attn") != std::string::npos; });
    const std::uint64_t biases = weights_of(a, [](const TensorSpec& s) { return s.role == TensorRole::bias; });
    EXPECT_EQ(size[TensorClass::attention].weights, attention);
    EXPECT_EQ(size[TensorClass::attention].bytes, 2 * (attention - biases) + 4 * biases);
    EXPECT_EQ(size[TensorClass::ffn].weights, 2u * 3 * 24 * 40);
    EXPECT_DOUBLE_EQ(size[TensorClass::ffn].bits_per_weight(), 16);
    EXPECT_EQ(size[TensorClass::norms].bytes, 4u * 5 * 24);
    EXPECT_EQ(size[TensorClass::embedding].bytes, 2u * 50 * 24);
    EXPECT_EQ(size[TensorClass::head].weights, tied ? 0u : 50u * 24);
    EXPECT_EQ(size[TensorClass::head].bits_per_weight(), tied ? 0 : 16);
    EXPECT_EQ(size.blocks().weights, attention + 2 * 3 * 24 * 40);
    EXPECT_EQ(size.all().weights, weights_of(a, [](const TensorSpec&) { return true; }));
    EXPECT_EQ(stored_size(model).bytes, size.all().bytes);
  }
}

TEST(CacheValues, AreKeysAndValuesOfAllBlocks) {
  EXPECT_EQ(cache_values_per_token(small_architecture()), 2u * 2 * 2 * 8);
}

}  // namespace
}  // namespace adze
