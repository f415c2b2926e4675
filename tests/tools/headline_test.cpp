// The claim that the tool is for: in the same bytes, GPTQ stays nearer to the original than rounding to nearest does.
// The shipped recipes, on fewer windows, through the real program.
#include <nlohmann/json.hpp>

#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

using Json = nlohmann::json;

/// A shipped recipe with less to read: 16 windows of 256 tokens, and one of the held-out texts in a shorter context.
std::string shipped_recipe(std::string_view name) {
  const fs::path root(ADZE_SOURCE_DIR);
  std::string text = read_file(root / "recipes" / name);
  text = replaced(std::move(text), "../calibration_data/mixed.yaml", bundled_text("mixed.yaml"));
  text = replaced(std::move(text), "../calibration_data/heldout.yaml", bundled_text("heldout/encyclopedia.txt"));
  text = replaced(std::move(text), "context: 512", "context: 256");
  text = replaced(std::move(text), "windows: 64", "windows: 16");
  return replaced(std::move(text), "tokens: 512", "tokens: 256");
}

Json manifest_of(const Workplace& place, std::string_view recipe) {
  expect_exit(compress(place.recipe(shipped_recipe(recipe)), demo_model(), place.out(), {"-q"}), 0);
  return Json::parse(read_file(fs::path(place.out()) / "manifest.json"));
}

TEST(Headline, GptqDivergesByAQuarterLessThanRoundingInTheSameBytes) {
  const Workplace solved_place, rounded_place;
  const Json solved = manifest_of(solved_place, "q4_k.yaml"), rounded = manifest_of(rounded_place, "q4_k-rtn.yaml");
  EXPECT_EQ(fs::file_size(fs::path(solved_place.out()) / "model.gguf"),
            fs::file_size(fs::path(rounded_place.out()) / "model.gguf"));
  EXPECT_EQ(solved.at("stored").at("bytes"), rounded.at("stored").at("bytes"));
  const Json &gptq = solved.at("evaluation"), &rtn = rounded.at("evaluation");
  for (const char* const key : {"protocol", "windows", "tokens", "perplexity_base"})
    EXPECT_EQ(gptq.at(key), rtn.at(key)) << key << ": they must be judged on the same text";
  const double kl_gptq = gptq.at("kl_mean"), kl_rtn = rtn.at("kl_mean");
  std::printf("mean KL: gptq %.5f +- %.5f, rtn %.5f +- %.5f\n", kl_gptq, gptq.at("kl_mean_se").get<double>(), kl_rtn,
              rtn.at("kl_mean_se").get<double>());
  EXPECT_GT(kl_gptq, 0.0);
  EXPECT_LT(kl_gptq, 0.75 * kl_rtn);
}

}  // namespace
}  // namespace adze::testing
