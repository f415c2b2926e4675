// Tokenizing plain English on one thread, against the speed that it must have at least. No limit of the machine bounds
// a tokenizer, so its yardstick is a rate: a body that lasts as long as the text would at that rate.
#include <chrono>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "pairs.h"
#include "text/tokenizer.h"

namespace adze::bench {
namespace {

constexpr double kLeastBytesPerSecond = 5e6;

std::string plain_english() {
  return read_file(ADZE_SOURCE_DIR "/calibration_data/calib/encyclopedia.txt") +
         read_file(ADZE_SOURCE_DIR "/calibration_data/calib/narrative.txt");
}

/// Busy, not asleep: a sleep lasts longer than it was asked to.
void spend(std::chrono::duration<double> time) {
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < time) {
  }
}

std::vector<Pair> make_pairs() {
  const std::string file = ADZE_SOURCE_DIR "/tests/models/demo-llama/tokenizer.json";
  const auto tokenizer = std::make_shared<Tokenizer>(Tokenizer::from_file(file));
  const auto text = std::make_shared<std::string>(plain_english());
  if (tokenizer->decode(tokenizer->encode(*text, false)) != *text)
    fail(ErrorKind::internal, "{}: decode(encode(text)) is not the text", file);
  const std::chrono::duration<double> allowed(static_cast<double>(text->size()) / kLeastBytesPerSecond);
  return {{.name = "text/encode English",
           .yardstick = "the time of 5 MB/s (a clock, no work), 1 thread",
           .ours = [=] { static_cast<void>(tokenizer->encode(*text, false).size()); },
           .yardstick_body = [=] { spend(allowed); },
           .target = 1}};
}

const bool registered = add("text", &make_pairs);

}  // namespace
}  // namespace adze::bench
