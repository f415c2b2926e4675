// adze-factorize: what it makes, and what it refuses.
#include "model/compressed_store.h"
#include "tools/scheme_testing.h"

namespace adze::testing {
namespace {

ProgramResult factorize(const Arguments& arguments) { return run_program("adze-factorize", arguments); }

TEST(Factorize, LosesLeastInTheNormOfTheInputs) {
  const Workplace place;
  const auto made = [&](const char* name, const Arguments& options) {
    const std::string out = (place / name).string();
    const ProgramResult result = factorize(joined(with_statistics({"--keep", "70%", "-o", out}), options));
    expect_exit(result, 0);
    EXPECT_THAT(result.out, ::testing::HasSubstr("rank "));
    return divergence(out);
  };
  const double whitened = made("whitened", {});
  EXPECT_LT(whitened, made("plain", {"--option", "metric=none"}));
  EXPECT_LT(made("pivoted", {"--option", "form=pivoted"}), whitened);
  EXPECT_LT(made("compot", {"--solver", "compot"}), whitened);
  expect_exit(run_program("adze-inspect", {(place / "compot").string(), "--verify"}), 0);
}

TEST(Factorize, SaysBytesAndMultiplications) {
  const Workplace place;
  const ProgramResult dry =
      factorize(with_statistics({"--keep", "60%", "--modules", "layers.*.mlp.*", "-o", place.out(), "--dry-run"}));
  expect_exit(dry, 0);
  EXPECT_THAT(dry.out, ::testing::ContainsRegex("multiplications a token in block linears [0-9]+ -> [0-9]+"));
  expect_no_output(place);
  const ProgramResult result = factorize(with_statistics({"--rank", "32", "-o", place.out(), "--json"}));
  expect_exit(result, 0);
  std::size_t found = 0;
  const Json report = Json::parse(result.out);
  for (const Json& tensor : report.at("tensors")) {
    if (tensor.at("module") != "layers.0.self_attn.q_proj") continue;
    ++found;
    EXPECT_EQ(tensor.at("format"), "rank 32 [f16] [f16]");
    EXPECT_EQ(tensor.at("multiplications"), 32 * (256 + 256));
    EXPECT_EQ(tensor.at("bytes"), 2 * 32 * (256 + 256));
  }
  EXPECT_EQ(found, 1U);
}

/// Keys as codes of half their width: weighed by the queries that read them, they lose less.
TEST(Factorize, MakesCodesForACache) {
  const Workplace place;
  const auto made = [&](const char* name, const char* readers) {
    const std::string out = (place / name).string();
    const ProgramResult result =
        factorize(with_statistics({"--rank", "25%", "--option", "form=pivoted", "--option", readers, "--modules",
                                   "layers.*.self_attn.k_proj", "-o", out}));
    expect_exit(result, 0);
    EXPECT_THAT(result.out, ::testing::HasSubstr("cache of codes between factors 1536 -> 960"));  // 6 x 128 + 6 x 32
    return divergence(out);
  };
  EXPECT_LT(made("read", "readers=true"), made("alike", "readers=false"));
  const Json cache = Json::parse(read_file(place / "read/manifest.json")).at("cache_numbers_per_token");
  EXPECT_EQ(cache.at("original"), 1536);
  EXPECT_EQ(cache.at("plain"), 1536);
  EXPECT_EQ(cache.at("with_codes"), 960);
}

TEST(Factorize, CorrectsAQuantizedBase) {
  const Workplace place;
  const std::string alone = (place / "alone").string();
  expect_exit(factorize(with_statistics({"--solver", "lowrank-residual", "--rank", "8", "--grid", "int3", "--group",
                                         "64", "--option", "iterations=2", "-o", place.out()})),
              0);
  expect_exit(run_program("adze-quantize", with_statistics({"--grid", "int3", "--group", "64", "-o", alone})), 0);
  EXPECT_LT(divergence(place.out()), divergence(alone));
}

TEST(Factorize, RefusesWhatCannotBe) {
  const auto refuses = [](const Arguments& arguments, Words words) {
    expect_tool_refuses("adze-factorize", with_statistics(arguments), 64, words);
  };
  refuses({"--keep", "0%"}, {"'keep' must be more than 0%"});
  refuses({"--keep", "120%"}, {"keep"});
  refuses({"--keep", "0.8"}, {"keep"});
  refuses({}, {"needs the key 'keep'"});
  refuses({"--keep", "80%", "--rank", "8"}, {"'rank' and keep exclude each other"});
  refuses({"--keep", "1%"}, {"leaves rank 1 of 256, less than align: 8; keep at least 6.2%, or align: 1"});
  refuses({"--keep", "80%", "--solver", "gptq"}, {"solver gptq makes no factors; svd, compot"});
  refuses({"--keep", "80%", "--solver", "svdd"}, {"unknown solver 'svdd'; did you mean 'svd'?"});
  refuses({"--solver", "lowrank-residual"}, {"has no grid"});
  refuses({"--keep", "80%", "--option", "metric=hesian"}, {"did you mean 'hessian'?"});
  refuses({"--keep", "80%", "--modules", "embed_tokens"}, {"looked up one by one"});
  expect_tool_refuses("adze-factorize", on_demo({"--keep", "80%"}), 64, {"solver svd needs statistics"});
}

}  // namespace
}  // namespace adze::testing
