// Routers in GGUF: 16 bits are widened to F32, exactly, as runtimes would round what is multiplied with 16 bits.
#include <cstring>

#include <gtest/gtest.h>

#include "export/gguf/storage.h"
#include "model/memory_source.h"

namespace adze {
namespace {

using namespace testing;

PlannedTensor planned(LinearSlot slot, const std::string& format) {
  for (const TensorSpec& spec : expected_tensors(mixture_architecture()))
    if (spec.slot == slot && spec.shape.size() == 2) return {spec, format};
  return {};
}

TEST(RouterStorage, WidensSixteenBitsExactly) {
  const CheckpointWeights model = random_model(mixture_architecture(), DType::bf16);
  for (const LinearSlot slot : {LinearSlot::router, LinearSlot::shared_router}) {
    const TensorPtr matrix = model.block(1)[slot].weight;
    ASSERT_EQ(matrix->format(), "bf16");
    const GgufStorage storage = gguf_storage(planned(slot, "bf16"));
    ASSERT_NE(storage.type, nullptr);
    EXPECT_EQ(storage.type->name, "F32");
    const MatrixF meant = matrix->decode();
    std::vector<std::size_t> rows;
    for (std::size_t r = 0; r < meant.rows(); ++r) rows.push_back(r);
    std::vector<std::byte> bytes(meant.values().size() * sizeof(float));
    encode_gguf_rows(storage, *matrix, rows, bytes);
    EXPECT_EQ(std::memcmp(bytes.data(), meant.values().data(), bytes.size()), 0);
  }
}

TEST(RouterStorage, LeavesOtherLinearsAsTheyAre) {
  EXPECT_EQ(gguf_storage(planned(LinearSlot::gate, "bf16")).type->name, "BF16");
  EXPECT_EQ(gguf_storage(planned(LinearSlot(LinearSlot::down, 2), "bf16")).type->name, "BF16");
}

}  // namespace
}  // namespace adze
