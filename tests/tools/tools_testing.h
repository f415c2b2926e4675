// What the tests of the programs share: the demo checkpoint and copies of it to break, small recipes, and checks of
// what a run says and leaves.
#pragma once

#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/safetensors_folder.h"
#include "checkpoint/safetensors_writer.h"
#include "tools/run_program.h"

namespace adze::testing {

namespace fs = std::filesystem;

inline fs::path demo_model() { return fs::path(ADZE_SOURCE_DIR) / "tests/models/demo-llama"; }
inline std::string bundled_text(std::string_view name) {
  return (fs::path(ADZE_SOURCE_DIR) / "calibration_data" / name).string();
}

inline std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << "nothing to replace: " << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

/// A run of a second: few and short windows, no evaluation.
inline std::string small_recipe() {
  return "adze: 1\n"
         "calibration: { set: " +
         bundled_text("calib/narrative.txt") +
         ", windows: 8, tokens: 128, seed: 7 }\n"
         "schemes:\n"
         "  q4k: { grid: gguf/q4_k, solver: gptq }\n"
         "rules:\n"
         "  - { modules: \"lm_head\", store: f16 }\n"
         "  - { modules: \"layers.**\", scheme: q4k }\n"
         "export:\n"
         "  - { format: gguf, file: model.gguf }\n";
}

/// The same without feedback between columns: faster still.
inline std::string rtn_recipe() { return replaced(small_recipe(), "solver: gptq", "solver: rtn"); }

/// A folder for one test: recipes, broken models, outputs.
class Workplace : public TempFolder {
 public:
  /// recipe.yaml with this text.
  std::string recipe(std::string_view text) const { return put("recipe.yaml", text).string(); }
  std::string out() const { return (path() / "out").string(); }

  /// A copy of the demo checkpoint, without its weights when `with_weights` is false.
  fs::path model(bool with_weights = true) const {
    const fs::path folder = path() / "model";
    fs::create_directory(folder);
    for (const fs::directory_entry& file : fs::directory_iterator(demo_model()))
      if (with_weights || file.path().extension() != ".safetensors")
        fs::copy_file(file.path(), folder / file.path().filename());
    return folder;
  }
  fs::path model_with_config(std::string_view from, std::string_view to) const {
    const fs::path folder = model();
    overwrite(folder / "config.json", replaced(read_file(folder / "config.json"), from, to));
    return folder;
  }
  static void overwrite(const fs::path& path, std::string_view bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }
};

/// The demo's tensors in memory, to be written differently.
struct Tensors {
  std::map<std::string, SafetensorsSpec> specs;
  std::map<std::string, std::vector<std::byte>> data;

  static Tensors of_demo() {
    const auto source = open_checkpoint_folder(demo_model());
    Tensors all;
    for (const TensorInfo& info : source->tensors()) {
      all.specs[info.name] = {info.name, safetensors_type_of(info.dtype), info.shape};
      all.data[info.name].resize(info.bytes);
      source->read(info, 0, all.data[info.name]);
    }
    return all;
  }
  void write(const fs::path& file, const std::vector<std::string>& names) const {
    std::vector<SafetensorsItem> items;
    for (const std::string& name : names) items.push_back({specs.at(name), data.at(name)});
    write_safetensors(file, items);
  }
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& [name, spec] : specs) all.push_back(name);
    return all;
  }
};

/// Two shards and their index.
inline fs::path sharded_model(const Workplace& place) {
  const fs::path folder = place.model(false);
  const Tensors tensors = Tensors::of_demo();
  const std::vector<std::string> names = tensors.names();
  const auto middle = names.begin() + static_cast<std::ptrdiff_t>(names.size() / 2);
  tensors.write(folder / "model-00001-of-00002.safetensors", {names.begin(), middle});
  tensors.write(folder / "model-00002-of-00002.safetensors", {middle, names.end()});
  std::string map;
  for (auto name = names.begin(); name != names.end(); ++name)
    map += fmt::format("{}\"{}\":\"model-0000{}-of-00002.safetensors\"", map.empty() ? "" : ",", *name,
                       name < middle ? 1 : 2);
  Workplace::overwrite(folder / "model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
  return folder;
}

/// Relative paths below `folder`, files only, sorted.
inline std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files.push_back(entry.path().lexically_relative(folder).string());
  std::ranges::sort(files);
  return files;
}

/// No file that a program was about to finish.
inline void expect_nothing_half_written(const fs::path& folder) {
  for (const std::string& file : files_below(folder)) {
    EXPECT_FALSE(file.ends_with(".tmp")) << file;
    EXPECT_FALSE(file.ends_with(".unverified")) << file;
  }
}

/// Name -> content of everything in a finished run but the reports, which hold timings.
inline std::map<std::string, std::string> result_files(const fs::path& out) {
  std::map<std::string, std::string> files;
  for (const std::string& name : files_below(out))
    if (!name.starts_with("report.")) files[name] = read_file(out / name);
  return files;
}

inline void expect_same_files(const std::map<std::string, std::string>& actual,
                              const std::map<std::string, std::string>& expected) {
  for (const auto& [name, bytes] : expected) {
    ASSERT_TRUE(actual.contains(name)) << name;
    EXPECT_TRUE(actual.at(name) == bytes) << name << " differs";
  }
  for (const auto& [name, bytes] : actual) EXPECT_TRUE(expected.contains(name)) << name << " is too much";
}

using Words = std::initializer_list<std::string_view>;

inline void expect_exit(const ProgramResult& result, int code, Words words = {}) {
  EXPECT_EQ(result.exit_code, code) << result.err;
  for (const std::string_view word : words) EXPECT_THAT(result.err, ::testing::HasSubstr(std::string(word)));
}

inline ProgramResult compress(const std::string& recipe, const fs::path& model, const std::string& out,
                              std::vector<std::string> more = {}, const ProgramOptions& options = {}) {
  std::vector<std::string> arguments{recipe, model.string(), "-o", out};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_program("adze-compress", std::move(arguments), options);
}

/// A run that must be refused before it makes anything.
inline void expect_refused(const Workplace& place, const std::string& recipe, const fs::path& model, int code,
                           Words words) {
  const ProgramResult result = compress(place.recipe(recipe), model, place.out());
  expect_exit(result, code, words);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, ::testing::StartsWith("adze-compress: error: "));
  EXPECT_FALSE(fs::exists(place.out()));
  expect_nothing_half_written(place.path());
}

}  // namespace adze::testing
