// adze-delta end to end: made, judged, inspected, exported, refused.
#include "linalg/convert.h"
#include "model/memory_source.h"
#include "model/pack/pack_file.h"
#include "tools/scheme_testing.h"

namespace adze::testing {
namespace {

using ::testing::HasSubstr;

/// The demo with a small change of every matrix of its blocks, as fine-tuning leaves it: a few directions and noise.
const fs::path& tuned_demo() {
  static const Workplace place;
  static const fs::path folder = [] {
    Tensors tensors = Tensors::of_demo();
    for (auto& [name, spec] : tensors.specs) {
      if (spec.shape.size() != 2 || !name.starts_with("model.layers.")) continue;
      const DType dtype = *dtype_of(spec.type);
      const auto cols = static_cast<std::size_t>(spec.shape[1]);
      std::vector<float> values(tensors.data[name].size() / bytes_of(dtype));
      to_float(dtype, tensors.data[name], values);
      const auto left = random_values(values.size() / cols, name + "left"), right = random_values(cols, name + "right");
      const auto noise = random_values(values.size(), name + "noise");
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] += 0.006f * left[i / cols] * right[i % cols] + 0.002f * noise[i];
      from_float(dtype, values, tensors.data[name]);
    }
    const fs::path made = place.model(false);
    tensors.write(made / "model.safetensors", tensors.names());
    return made;
  }();
  return folder;
}

ProgramResult make_delta(const std::string& out, const Arguments& more) {
  return run_program("adze-delta",
                     joined({demo_model().string(), tuned_demo().string(), "-o", out, "--json", "-q"}, more));
}

/// Mean divergence from the fine-tuned demo.
double from_tuned(const std::string& model) {
  const Workplace place;
  const std::string text =
      place.put("text.txt", read_file(bundled_text("heldout/narrative.txt")).substr(0, 4000)).string();
  const ProgramResult result =
      run_program("adze-eval", {model, "--base", demo_model().string(), "--reference", tuned_demo().string(), "--text",
                                text, "--protocol", "lcpp-128", "--json"});
  expect_exit(result, 0);
  return Json::parse(result.out).at("kl_mean").get<double>();
}

TEST(Delta, EveryMethodComesNearerToTheFineTunedModelThanItsBase) {
  const Workplace place;
  const double of_base = from_tuned(demo_model().string());
  EXPECT_GT(of_base, 0.001);
  const auto of = [&](const char* name, const Arguments& options) {
    const std::string out = (place / name).string();
    const ProgramResult result = make_delta(out, options);
    expect_exit(result, 0);
    const Json json = Json::parse(result.out);
    EXPECT_EQ(json.at("bytes"), fs::file_size(out));
    return from_tuned(out);
  };
  const double signs = of("signs", {"--stats", demo_statistics()});
  EXPECT_LT(signs, 0.6 * of_base);
  EXPECT_LT(signs, of("mean", {"--stats", demo_statistics(), "--plain"}));
  EXPECT_LT(of("rank", {"--method", "low-rank", "--rank", "8", "--stats", demo_statistics()}), 0.5 * of_base);
  EXPECT_LT(of("int4", {"--method", "int4", "--group", "32", "--stats", demo_statistics()}), 0.1 * of_base);
  EXPECT_LT(of("drop", {"--method", "drop", "--drop", "50%", "--stats", demo_statistics()}), of_base);
}

TEST(Delta, SaysWhatItStores) {
  const Workplace place;
  const std::string out = place.out();
  const ProgramResult dry = run_program(
      "adze-delta", {demo_model().string(), tuned_demo().string(), "-o", out, "--method", "drop", "--dry-run"});
  expect_exit(dry, 0);
  EXPECT_FALSE(fs::exists(out));
  EXPECT_THAT(dry.out, HasSubstr("base + dropped 90% seed 0"));
  EXPECT_THAT(dry.out, HasSubstr("no statistics: every input weighs the same"));
  const ProgramResult made =
      run_program("adze-delta", {demo_model().string(), tuned_demo().string(), "-o", out, "--method", "drop"});
  expect_exit(made, 0);
  EXPECT_THAT(made.out, HasSubstr(fmt::format("{} bytes", fs::file_size(out))));
  EXPECT_THAT(dry.out, HasSubstr(fmt::format("{} bytes", fs::file_size(out)))) << "known before";
  EXPECT_THAT(made.out, HasSubstr("expected J / tr(WHW')"));
  expect_exit(run_program("adze-delta", {demo_model().string(), tuned_demo().string(), "-o", out}), 73,
              {"--overwrite"});
}

TEST(Delta, IsInspectedWithoutItsBase) {
  const Workplace place;
  const std::string out = place.out();
  expect_exit(make_delta(out, {}), 0);
  const ProgramResult whole = run_program("adze-inspect", {out, "--verify", "--json"});
  expect_exit(whole, 0);
  const Json json = Json::parse(whole.out).at("properties");
  EXPECT_THAT(whole.out, HasSubstr("base + signs per row"));
  EXPECT_EQ(json.at("delta_of"), "demo-llama");
  EXPECT_GT(json.at("delta_bits_per_weight").get<double>(), 0.1);
  EXPECT_LT(json.at("delta_bits_per_weight").get<double>(), 1.2);
  std::string bytes = read_file(out);
  bytes[bytes.size() - 100] = static_cast<char>(bytes[bytes.size() - 100] ^ 1);
  Workplace::overwrite(out, bytes);
  expect_exit(run_program("adze-inspect", {out, "--verify"}), 65);
}

TEST(Delta, IsExportedAsAModelOfItsOwn) {
  const Workplace place;
  const std::string out = place.out(), folder = (place / "again").string(), pack = (place / "alone.adze").string();
  expect_exit(make_delta(out, {"--method", "low-rank", "--rank", "100%"}), 0);
  expect_exit(run_program("adze-export", {out, "--format", "safetensors", "-o", folder}), 66,
              {"is a delta", "'demo-llama'", "--base"});
  expect_exit(
      run_program("adze-export", {out, "--base", demo_model().string(), "--format", "safetensors", "-o", folder}), 0);
  EXPECT_LT(from_tuned(folder), 1e-5);
  // A pack of its own has base and delta, byte for byte; the reader in C has read it back.
  expect_exit(make_delta(out, {"--method", "drop", "--overwrite"}), 0);
  expect_exit(run_program("adze-export", {out, "--base", demo_model().string(), "--format", "pack", "-o", pack}), 0);
  EXPECT_EQ(from_tuned(pack), from_tuned(out));
  EXPECT_THAT(PackFile(pack).find("model.layers.0.mlp.up_proj.weight")->format, HasSubstr(" + dropped 90% seed 0"));
}

TEST(Delta, IsCompressedAsAnyModel) {
  const Workplace place;
  const std::string out = place.out(), quantized = (place / "q").string();
  expect_exit(make_delta(out, {"--method", "int4", "--group", "32"}), 0);
  expect_exit(run_program("adze-quantize", {out, "--base", demo_model().string(), "--grid", "gguf/q8_0", "--solver",
                                            "rtn", "-o", quantized}),
              0);
  EXPECT_LT(from_tuned(quantized), 0.01);
}

TEST(Delta, RefusesWhatDoesNotGoTogether) {
  const std::string base = demo_model().string(), tuned = tuned_demo().string();
  const auto refuses = [&](const Arguments& options, int code, Words words) {
    expect_tool_refuses("adze-delta", joined({base, tuned, "-q"}, options), code, words);
  };
  refuses({"--method", "sign"}, 64, {"unknown method 'sign'", "did you mean 'signs'?"});
  refuses({"--rank", "4"}, 64, {"--rank is no option of --method signs"});
  refuses({"--method", "drop", "--drop", "100%"}, 64, {"probability from 0 to 0.999"});
  refuses({"--method", "drop", "--drop", "2:4"}, 64, {"write a percentage"});
  refuses({"--method", "low-rank", "--option", "metrik=none"}, 64, {"metrik"});
  refuses({"--method", "int4", "--group", "48"}, 65, {"self_attn.q_proj"});
  refuses({"--stats", base}, 65, {});
  expect_tool_refuses("adze-delta", {base, "/nonexistent"}, 66, {"does not exist"});
}

TEST(Delta, ARunThatIsStoppedLeavesNothing) {
  const Workplace place;
  ProgramOptions options;
  options.largest_file = 100000;  // as on a full disk
  const ProgramResult result =
      run_program("adze-delta", {demo_model().string(), tuned_demo().string(), "-o", place.out()}, options);
  EXPECT_NE(result.exit_code, 0);
  EXPECT_FALSE(fs::exists(place.out()));
  expect_nothing_half_written(place.path());
}

}  // namespace
}  // namespace adze::testing
