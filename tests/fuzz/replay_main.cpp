// Runs a fuzz target as an ordinary test: over every file of a corpus folder, over cut copies of it (every length, or
// 200 evenly spaced ones when it is longer) and over 500 mutated copies that are the same each time. A target catches
// the errors it may meet; whatever leaves it ends the program and fails the test, as does an empty corpus.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/random.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

constexpr std::size_t kMaxCuts = 200;
constexpr int kMutations = 500;

std::size_t g_inputs = 0;

void run(const std::string& input) {
  // A copy of exact size, so that a sanitizer sees a read one byte too far.
  const std::vector<std::uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  ++g_inputs;
}

void run_cuts(const std::string& whole) {
  const std::size_t cuts = std::min(whole.size(), kMaxCuts);
  for (std::size_t i = 0; i < cuts; ++i) run(whole.substr(0, i * whole.size() / cuts));
}

/// One small change: a byte set, a bit flipped, a range removed, doubled or overwritten with extreme values.
void mutate(std::string& bytes, adze::RandomStream& random) {
  if (bytes.empty()) return bytes.push_back(static_cast<char>(random.below(256)));
  const std::size_t at = random.below(bytes.size());
  const std::size_t length = std::min<std::size_t>(1 + random.below(16), bytes.size() - at);
  switch (random.below(6)) {
    case 0:
      bytes[at] = static_cast<char>(random.below(256));
      break;
    case 1:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
      break;
    case 2:
      bytes.erase(at, length);
      break;
    case 3:
      bytes.insert(at, bytes.substr(at, length));
      break;
    case 4:
      bytes.replace(at, length, length, random.below(2) == 0 ? '\0' : '\xFF');
      break;
    default:
      bytes.replace(at, length, bytes.substr(random.below(bytes.size()), length));
  }
}

void run_mutations(const std::string& whole, const std::string& name) {
  adze::RandomStream random(1, name);
  for (int i = 0; i < kMutations; ++i) {
    std::string bytes = whole;
    for (std::uint64_t changes = 1 + random.below(4); changes > 0; --changes) mutate(bytes, random);
    run(bytes);
  }
}

int replay(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::ranges::sort(files);
  for (const auto& file : files) {
    const std::string whole = adze::read_file(file);
    run(whole);
    run_cuts(whole);
    run_mutations(whole, file.filename().string());
  }
  std::printf("%zu inputs\n", g_inputs);
  return g_inputs == 0 ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
    return 64;
  }
  try {
    return replay(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "after %zu inputs: %s\n", g_inputs, error.what());
    return 1;
  }
}
