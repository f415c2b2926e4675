// Importance matrices of models whose GGUF has several linears in one tensor: the experts of a block in one entry, one
// after the other, each with its own count; q, k and v once.
#include "calibrate/calibrate.h"
#include "calibrate/calibrate_testing.h"
#include "calibrate/imatrix_statistics.h"

namespace adze {
namespace {

using namespace testing;

TEST(MixtureImatrix, HasTheExpertsOfABlockInOneEntry) {
  const TempFolder folder;
  const CheckpointWeights model = random_model(mixture_architecture());
  const Architecture& a = model.architecture();
  CalibrateOptions options;
  options.out = folder / "statistics";
  calibrate(model, "mixture", random_windows(8, 32, a.vocab), options, silent_progress());
  const StatisticsFolder statistics(options.out);
  const Imatrix imatrix = imatrix_of(statistics, ImatrixKind::gguf);
  for (const auto& [tensor, kind] :
       {std::pair{"blk.1.ffn_up_exps.weight", Stage::gate_up}, std::pair{"blk.1.ffn_down_exps.weight", Stage::down}}) {
    const auto entry = std::ranges::find(imatrix.entries, tensor, &ImatrixEntry::tensor);
    ASSERT_NE(entry, imatrix.entries.end()) << tensor;
    ASSERT_EQ(entry->counts.size(), a.experts);
    const std::size_t cols = width_of(a, Stage(kind, 0));
    ASSERT_EQ(entry->sums.size(), a.experts * cols);
    for (std::size_t e = 0; e < a.experts; ++e) {
      const InputStatistics input = statistics.block_input(1, Stage(kind, e));
      EXPECT_EQ(entry->counts[e], static_cast<double>(input.tokens));
      for (std::size_t c = 0; c < cols; ++c)
        EXPECT_EQ(entry->sums[e * cols + c], static_cast<float>(input.second_moment(c, c)));
    }
  }
}

/// q, k and v lie in one tensor there, and read the same inputs.
TEST(FusedImatrix, HasQueriesKeysAndValuesOnce) {
  const TempFolder folder;
  Architecture a;
  a.family = "OPTForCausalLM";
  a.hidden = a.ffn = 32;
  a.layers = a.heads = a.kv_heads = 2;
  a.head_dim = 16;
  a.vocab = 40;
  a.max_positions = 64;
  a.norm_eps = 1e-5;
  a.activation = Activation::gelu_tanh;
  a.qkv_bias = a.o_bias = a.mlp_bias = true;
  const CheckpointWeights model = random_model(a);
  CalibrateOptions options;
  options.out = folder / "statistics";
  calibrate(model, "fused", random_windows(2, 32, a.vocab), options, silent_progress());
  const Imatrix imatrix = imatrix_of(StatisticsFolder(options.out), ImatrixKind::gguf);
  for (const char* const tensor : {"blk.0.attn_qkv.weight", "blk.1.attn_qkv.weight", "blk.1.ffn_up.weight"})
    EXPECT_EQ(std::ranges::count(imatrix.entries, tensor, &ImatrixEntry::tensor), 1) << tensor;
}

/// Those of Phi-3 too, which is read as Mistral, in the files that llama.cpp's converter writes; its quantizer finds
/// both.
TEST(FusedImatrix, OfMistralHasPhi3sNamesToo) {
  const TempFolder folder;
  Architecture a;
  a.family = "MistralForCausalLM";
  a.hidden = a.ffn = 32;
  a.layers = a.heads = 2;
  a.kv_heads = 1;
  a.head_dim = 16;
  a.vocab = 40;
  a.max_positions = 64;
  a.norm_eps = 1e-5;
  const CheckpointWeights model = random_model(a);
  CalibrateOptions options;
  options.out = folder / "statistics";
  calibrate(model, "fused", random_windows(2, 32, a.vocab), options, silent_progress());
  const Imatrix imatrix = imatrix_of(StatisticsFolder(options.out), ImatrixKind::gguf);
  const auto entry = [&](const char* tensor) {
    EXPECT_EQ(std::ranges::count(imatrix.entries, tensor, &ImatrixEntry::tensor), 1) << tensor;
    return *std::ranges::find(imatrix.entries, tensor, &ImatrixEntry::tensor);
  };
  for (const char* const apart : {"blk.1.attn_q.weight", "blk.1.attn_k.weight", "blk.1.attn_v.weight"})
    EXPECT_EQ(entry(apart).sums, entry("blk.1.attn_qkv.weight").sums);
  EXPECT_EQ(entry("blk.1.ffn_gate.weight").sums, entry("blk.1.ffn_up.weight").sums);
}

}  // namespace
}  // namespace adze
