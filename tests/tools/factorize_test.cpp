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

/// Blocks 0 and 1 share, 2 and 3, 4 and 5: a larger rank in the same bytes.
TEST(Factorize, SharesAFactorBetweenNeighbouringBlocks) {
  const Workplace place;
  const Arguments asked{"--keep", "70%", "--modules", "layers.*.self_attn.q_proj"};
  const auto made = [&](const char* name, const Arguments& options) {
    const std::string out = (place / name).string();
    const ProgramResult result = factorize(joined(with_statistics(asked), joined(options, {"-o", out, "--json"})));
    expect_exit(result, 0);
    std::uint64_t bytes = 0;
    for (const Json& tensor : Json::parse(result.out).at("tensors")) bytes += tensor.at("bytes").get<std::uint64_t>();
    return std::pair{divergence(out), bytes};
  };
  const auto own = made("own", {});
  const auto shared = made("shared", {"--solver", "shared-basis"});
  EXPECT_LT(shared.first, own.first);
  EXPECT_NEAR(static_cast<double>(shared.second), static_cast<double>(own.second),
              0.03 * static_cast<double>(own.second));
  expect_exit(run_program("adze-inspect", {(place / "shared").string(), "--verify"}), 0);
  const auto store = [&] { return std::make_unique<CompressedStore>(place / "shared/store"); };
  const std::string slot = store()->block(1)[LinearSlot::q].weight->format();
  EXPECT_THAT(slot, ::testing::HasSubstr("[shared layers.0.self_attn.q_proj [f16]]"));
  EXPECT_EQ(store()->block(5)[LinearSlot::q].weight->decode().cols(), 256U);
  expect_exit(run_program("adze-export",
                          {(place / "shared").string(), "--format", "gguf", "-o", (place / "shared.gguf").string()}),
              0);  // multiplied out
  const auto opened = store();
  opened->block(1);
  fs::remove(place / "shared/store/block-0000.h5");
  EXPECT_NO_THROW(opened->block(1));  // files that were opened stay open, those of factors, too
  EXPECT_THROW(store()->block(1), Error);
  EXPECT_NO_THROW(store()->block(2));
  fs::copy_file(place / "own/store/block-0000.h5", place / "shared/store/block-0000.h5");
  fs::copy_file(place / "own/store/block-0000.h5.xxh3", place / "shared/store/block-0000.h5.xxh3",
                fs::copy_options::overwrite_existing);
  EXPECT_THROW(store()->block(1), Error);  // another rank
}

TEST(Factorize, SharesOnlyWhereTwoBlocksAreKnown) {
  const Arguments shared{"--solver", "shared-basis", "--keep", "70%"};
  expect_tool_refuses("adze-factorize", on_demo(shared), 64, {"give --stats"});
  expect_tool_refuses("adze-factorize", on_demo(joined(shared, {"--data-free"})), 64, {"statistics of two blocks"});
  const Workplace place;
  const fs::path recipe = place.put("shared.yaml", replaced(small_recipe(), "{ grid: gguf/q4_k, solver: gptq }",
                                                            "{ solver: shared-basis, keep: 70% }"));
  const ProgramResult result =
      run_program("adze-compress", {recipe.string(), demo_model().string(), "-o", place.out()});
  expect_exit(result, 78, {"pairs blocks", "adze factorize"});
  const ProgramResult lone = factorize(
      with_statistics(joined(shared, {"--modules", "layers.2.self_attn.q_proj", "-o", place.out(), "--dry-run"})));
  expect_exit(lone, 0);
  EXPECT_THAT(lone.out + lone.err, ::testing::HasSubstr("no neighbouring block takes the same scheme"));
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
  refuses({"--keep", "80%", "--solver", "gptq"}, {"solver gptq makes no factors; svd, shared-basis, compot"});
  refuses({"--keep", "80%", "--solver", "svdd"}, {"unknown solver 'svdd'; did you mean 'svd'?"});
  refuses({"--solver", "lowrank-residual"}, {"has no grid"});
  refuses({"--keep", "80%", "--option", "metric=hesian"}, {"did you mean 'hessian'?"});
  refuses({"--keep", "80%", "--modules", "embed_tokens"}, {"looked up one by one"});
  expect_tool_refuses("adze-factorize", on_demo({"--keep", "80%"}), 64, {"solver svd needs statistics"});
}

}  // namespace
}  // namespace adze::testing
