// Tokenizer throughput in bytes of text per second, single-threaded, and what long runs cost. Each case checks its
// answer. ADZE_SOURCE_DIR locates the bundled tokenizer and text.
#include <benchmark/benchmark.h>

#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "text/split_family.h"
#include "text/tokenizer.h"

namespace adze {
namespace {

const std::string kTokenizerFile = ADZE_SOURCE_DIR "/tests/models/demo-llama/tokenizer.json";

/// The bundled tokenizer with the split pattern of another family.
Tokenizer with_family(SplitFamily family) {
  nlohmann::json root = parse_json(read_file(kTokenizerFile), kTokenizerFile);
  const nlohmann::json split = {{"type", "Split"},
                                {"pattern", {{"Regex", std::string(split_pattern(family))}}},
                                {"behavior", "Isolated"},
                                {"invert", false}};
  const nlohmann::json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  root["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}};
  return Tokenizer::from_json(root.dump(), "variant");
}

void encode(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  std::size_t count = 0;
  for (auto _ : state) {
    const auto ids = tokenizer.encode(text, /*add_special=*/false);
    count = ids.size();
    benchmark::DoNotOptimize(ids.data());
  }
  if (tokenizer.decode(tokenizer.encode(text, false)) != text) state.SkipWithError("decode(encode(text)) != text");
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * text.size()));
  state.counters["tokens"] = static_cast<double>(count);
}

std::string english() {
  return read_file(ADZE_SOURCE_DIR "/calibration_data/calib/encyclopedia.txt") +
         read_file(ADZE_SOURCE_DIR "/calibration_data/calib/narrative.txt");
}

void BM_Encode(benchmark::State& state, SplitFamily family) { encode(state, with_family(family), english()); }
BENCHMARK_CAPTURE(BM_Encode, gpt2, SplitFamily::gpt2);
BENCHMARK_CAPTURE(BM_Encode, llama3, SplitFamily::llama3);
BENCHMARK_CAPTURE(BM_Encode, qwen2, SplitFamily::qwen2);
BENCHMARK_CAPTURE(BM_Encode, tekken_through_pcre2, SplitFamily::tekken);

/// The bundled vocabulary of bytes as one of characters, as Llama-2's files are: no pre-tokenizer, the text is one
/// word.
Tokenizer of_characters() {
  nlohmann::json root = parse_json(read_file(kTokenizerFile), kTokenizerFile);
  const auto spaces_marked = [](std::string text) {  // "Ġ" to "▁"
    for (std::size_t at; (at = text.find("\xC4\xA0")) != text.npos;) text.replace(at, 2, "\xE2\x96\x81");
    return text;
  };
  nlohmann::json vocab = nlohmann::json::object(), merges = nlohmann::json::array();
  for (const auto& [text, id] : root["model"]["vocab"].items()) vocab[spaces_marked(text)] = id;
  for (const auto& merge : root["model"]["merges"]) merges.push_back(spaces_marked(merge.get<std::string>()));
  const int first_byte = static_cast<int>(vocab.size()) + 2;
  for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = first_byte + byte;
  root["model"]["vocab"] = vocab;
  root["model"]["merges"] = merges;
  root["model"]["byte_fallback"] = true;
  const std::string mark = "\xE2\x96\x81";
  const nlohmann::json space = {{"String", " "}}, marked = {{"String", mark}};
  root["normalizer"] = {
      {"type", "Sequence"},
      {"normalizers",
       {{{"type", "Prepend"}, {"prepend", mark}}, {{"type", "Replace"}, {"pattern", space}, {"content", mark}}}}};
  root["pre_tokenizer"] = nullptr;
  root["decoder"] = {{"type", "Sequence"},
                     {"decoders",
                      {{{"type", "Replace"}, {"pattern", marked}, {"content", " "}},
                       {{"type", "ByteFallback"}},
                       {{"type", "Fuse"}},
                       {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  return Tokenizer::from_json(root.dump(), "characters");
}

void BM_EncodeCharacters(benchmark::State& state) { encode(state, of_characters(), english()); }
BENCHMARK(BM_EncodeCharacters);

void BM_EncodeRun(benchmark::State& state, char letter) {
  encode(state, with_family(SplitFamily::gpt2), std::string(static_cast<std::size_t>(state.range(0)), letter));
}
BENCHMARK_CAPTURE(BM_EncodeRun, letters, 'a')->Range(1 << 14, 1 << 22);
BENCHMARK_CAPTURE(BM_EncodeRun, spaces, ' ')->Range(1 << 14, 1 << 22);

void BM_Load(benchmark::State& state) {
  const std::string json = read_file(kTokenizerFile);
  for (auto _ : state) benchmark::DoNotOptimize(Tokenizer::from_json(json, kTokenizerFile).size());
}
BENCHMARK(BM_Load);

}  // namespace
}  // namespace adze

BENCHMARK_MAIN();
