// The product in a real runtime: llama.cpp loads the model.gguf that `adze-compress` made, predicts what our forward
// pass predicts from the store beside it, and writes text that can be read. Needs Node.js: see
// tests/export/llama_cpp.h.
#include <cctype>
#include <set>

#include "export/llama_cpp.h"
#include "model/compressed_store.h"
#include "tools/tools_testing.h"

namespace adze::testing {
namespace {

/// Whitespace-separated words without punctuation around them, in small letters.
std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text + " ") {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isspace(byte) && !words.back().empty()) words.emplace_back();
    if (!std::isspace(byte) && !std::ispunct(byte)) words.back() += static_cast<char>(std::tolower(byte));
  }
  words.pop_back();
  return words;
}

/// The words of the calibration texts.
const std::set<std::string>& known_words() {
  static const std::set<std::string> known = [] {
    std::set<std::string> all;
    for (const char* const name : kTexts)
      all.merge([&] {
        const auto words = words_of(read_file(bundled_text(std::string("calib/") + name + ".txt")));
        return std::set<std::string>(words.begin(), words.end());
      }());
    return all;
  }();
  return known;
}

/// How much a text looks like language: the share of words that are known, and how many different ones of them.
struct Readability {
  double known_share = 0;
  std::size_t distinct = 0;

  static Readability of(const std::string& text) {
    const std::vector<std::string> words = words_of(text);
    std::set<std::string> distinct;
    std::size_t known = 0;
    for (const std::string& word : words)
      if (known_words().contains(word)) {
        ++known;
        distinct.insert(word);
      }
    return {words.empty() ? 0 : static_cast<double>(known) / static_cast<double>(words.size()), distinct.size()};
  }
  bool good() const { return known_share >= 0.6 && distinct >= 6; }
};

/// Tokens drawn from the whole vocabulary, as text.
std::string random_text(std::size_t tokens, std::uint64_t seed) {
  RandomStream random(seed, "random text");
  std::vector<std::int32_t> ids(tokens);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random.below(demo().model->architecture().vocab));
  return demo().tokenizer.decode(ids);
}

TEST(Readability, AcceptsTextsAndRefusesNoiseAndRepetition) {
  for (const char* const name : {"dialogue", "encyclopedia", "narrative"})
    EXPECT_TRUE(Readability::of(text_of(name, 300)).good()) << name;
  EXPECT_FALSE(Readability::of("").good());
  EXPECT_FALSE(Readability::of(std::string(60, 'a')).good());
  std::string again;
  for (int i = 0; i < 60; ++i) again += " the";
  EXPECT_FALSE(Readability::of(again).good());
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Readability noise = Readability::of(random_text(60, seed));
    EXPECT_FALSE(noise.good()) << "seed " << seed << ": " << noise.known_share;
  }
}

class LlamaCppOfCompress : public LlamaCpp {
 protected:
  void compress_with(const std::string& text) {
    const std::string recipe = folder.put("recipe.yaml", text).string();
    expect_exit(compress(recipe, demo_model(), folder / "out", {"-q", "--overwrite"}), 0);
  }

  void expect_same_predictions(const std::string& what) {
    const Windows windows = windows_of_texts(60);
    const CompressedStore store(folder / "out/store");
    const MatrixF original = probabilities_of(our_logits(*demo().model, windows)), ours = our_logits(store, windows);
    expect_faithful(mean_kl(distribution("out/model.gguf", windows), ours), mean_kl(original, ours), what);
  }
};

TEST_F(LlamaCppOfCompress, PredictsWhatOurForwardPassPredictsFromTheStore) {
  compress_with(small_recipe());
  expect_same_predictions("adze-compress");
}

TEST_F(LlamaCppOfCompress, LoadsModelsThatTransformsHaveMade) {
  for (const char* const transforms :
       {"{ kind: rotate }, { kind: awq }", "{ kind: prune-ffn, keep: 80% }, { kind: prune-heads, keep: 50% }",
        "{ kind: prune-heads, keep: 50%, what: queries }"}) {
    compress_with("transform: [ " + std::string(transforms) + " ]\n" +
                  replaced(small_recipe(), "gguf/q4_k", "gguf/q4_0"));
    expect_same_predictions(transforms);
  }
}

TEST_F(LlamaCppOfCompress, WritesReadableText) {
  compress_with(small_recipe());
  folder.put("prompt.txt", text_of("narrative", 300));
  const nlohmann::json result = run("generate", "out/model.gguf", quoted(folder / "prompt.txt") + " 60");
  const auto text = result.at("text").get<std::string>();
  const Readability readability = Readability::of(text);
  std::printf("%.0f %% known words, %zu different ones: %s\n", 100 * readability.known_share, readability.distinct,
              text.c_str());
  EXPECT_TRUE(readability.good()) << text;
}

}  // namespace
}  // namespace adze::testing
