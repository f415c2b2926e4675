// Importance matrices of mixtures: the experts of a block in one entry, one after the other, each with its own count.
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

}  // namespace
}  // namespace adze
