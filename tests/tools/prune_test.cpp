// adze-prune: the patterns that it makes, and what it refuses.
#include "model/compressed_store.h"
#include "tools/scheme_testing.h"

namespace adze::testing {
namespace {

ProgramResult prune(const Arguments& arguments) { return run_program("adze-prune", arguments); }

/// Groups of four consecutive weights of a row with more than two that are not zero.
std::size_t dense_groups(const MatrixF& weights) {
  std::size_t dense = 0;
  for (std::size_t r = 0; r < weights.rows(); ++r)
    for (std::size_t c = 0; c < weights.cols(); c += 4) {
      const auto group = weights.row(r).subspan(c, 4);
      dense += std::ranges::count(group, 0.0f) < 2 ? 1 : 0;
    }
  return dense;
}

void expect_two_of_four(const std::string& out) {
  const CompressedStore store(fs::path(out) / "store");
  for (std::size_t block = 0; block < store.architecture().layers; ++block) {
    const BlockWeights weights = store.block(block);
    weights.for_each_linear(
        [&](const Linear& linear) { EXPECT_EQ(dense_groups(linear.weight->decode()), 0U) << block; });
  }
  EXPECT_GT(dense_groups(store.embedding()->decode()), 0U);
}

TEST(Prune, MakesThePatternExactlyAndLosesLessThanByMagnitude) {
  const Workplace place;
  const std::string by_size = (place / "by-size").string();
  const ProgramResult result = prune(with_statistics({"--sparsity", "2:4", "-o", place.out()}));
  expect_exit(result, 0);
  EXPECT_THAT(result.out, ::testing::HasSubstr("2:4"));
  expect_exit(prune(on_demo({"--sparsity", "2:4", "--solver", "magnitude", "-o", by_size})), 0);
  expect_two_of_four(place.out());
  expect_two_of_four(by_size);
  EXPECT_LT(divergence(place.out()), divergence(by_size));
  expect_exit(run_program("adze-inspect", {place.out(), "--verify"}), 0);
}

TEST(Prune, QuantizesWhatIsLeft) {
  const Workplace place;
  const ProgramResult result =
      prune(with_statistics({"--sparsity", "2:4", "--grid", "int4", "--group", "64", "-o", place.out(), "--json"}));
  expect_exit(result, 0);
  const Json json = Json::parse(result.out);
  EXPECT_THAT(json.at("/scheme/format"_json_pointer).get<std::string>(), ::testing::HasSubstr("int4 g64 sym"));
  expect_two_of_four(place.out());
}

/// Rows have 256 columns, in down_proj 768: three divides only the latter.
TEST(Prune, KeepsWhatThePatternDoesNotFitWhenToldTo) {
  const Workplace place;
  const Arguments scheme = on_demo({"--sparsity", "1:3", "--solver", "magnitude"});
  expect_tool_refuses("adze-prune", scheme, 64,
                      {"rows of 256 columns do not divide into groups of 3; m = 2 does; or give --fallback a dtype"});
  const ProgramResult result = prune(joined(scheme, {"--fallback", "f16", "-o", place.out(), "--json"}));
  expect_exit(result, 0);
  EXPECT_EQ(Json::parse(result.out).at("tensors").size(), 6U);
}

TEST(Prune, RefusesSparsitiesThatCannotBe) {
  const auto refuses = [](const Arguments& arguments, Words words) {
    expect_tool_refuses("adze-prune", with_statistics(arguments), 64, words);
  };
  refuses({"--sparsity", "120%"}, {"'sparsity' is wrong: sparsity 1.2 is not between 0% and 100%",
                                   "\n    --sparsity 120% --solver sparsegpt --modules layers.**\n               ^"});
  refuses({"--sparsity", "4:2"}, {"sparsity 4:2 keeps 4 of every 2 weights; n is 1 to 1"});
  refuses({"--sparsity", "50"}, {"sparsity '50' is neither a percentage such as 50% nor n:m such as 2:4"});
  refuses({"--sparsity", "half"}, {"sparsity 'half' is neither"});
  refuses({"--sparsity", "2:5"}, {"rows of 256 columns do not divide into groups of 5; m = 4 does"});
  refuses({"--sparsity", "50%", "--option", "block=7", "--solver", "obr"},
          {"rows of 256 columns do not divide into groups of 7; block: 4 does"});
  refuses({"--sparsity", "50%", "--grid", "gguf/q4_k"}, {"grid gguf/q4_k has no zero in every group"});
  refuses({"--sparsity", "50%", "--solver", "gptq"}, {"does not go with solver gptq, which prunes nothing", "wanda"});
  refuses({"--sparsity", "50%", "--option", "sparsity=40%"}, {"'sparsity' is given twice"});
  refuses({"--sparsity", "50%", "--option", "enumerat=true"}, {"unknown key 'enumerat'; did you mean 'enumerate'?"});
}

TEST(Prune, WantsASparsityAndStatisticsWhereTheSolverUsesThem) {
  expect_tool_refuses("adze-prune", on_demo({"--sparsity", "50%"}), 64, {"solver sparsegpt needs statistics"});
  expect_tool_refuses("adze-prune", on_demo({"--sparsity", "50%", "--solver", "wanda"}), 64,
                      {"solver wanda needs statistics"});
  expect_tool_refuses("adze-prune", on_demo({"--sparsity", "50%", "--solver", "magnitude", "--option", "restore=true"}),
                      64, {"solver magnitude needs statistics with these options"});
  expect_exit(prune(with_statistics({"--solver", "wanda", "-o", "x"})), 64, {"--sparsity is required"});
}

}  // namespace
}  // namespace adze::testing
