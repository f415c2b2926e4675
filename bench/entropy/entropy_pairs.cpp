#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/parallel.h"
#include "base/random.h"
#include "entropy/coded_symbols.h"
#include "grid/coded/coded_payload.h"
#include "grid/quantized_tensor.h"
#include "pairs.h"

namespace adze::bench {
namespace {

constexpr std::size_t kCodes = 100'000'000;  // 1 / (seconds x threads) is the rate of a core in 100 million codes/s

using Symbols = std::vector<std::uint8_t>;

/// Codes of normal weights in groups of 128, symmetric 4 bits; a million of them over and over.
Symbols gaussian_codes() {
  RandomStream random(1, "bench entropy");
  Symbols codes;
  while (codes.size() < 1'000'000) {
    std::array<double, 128> weights{};
    double most = 0;
    for (double& w : weights) most = std::max(most, std::fabs(w = random.normal()));
    for (const double w : weights) codes.push_back(static_cast<std::uint8_t>(std::lround(w / most * 7) + 8));
  }
  codes.reserve(kCodes);
  while (codes.size() < kCodes) codes.push_back(codes[codes.size() - 1'000'000]);
  return codes;
}

/// Copies as many bytes as decoding writes, on all threads.
std::function<void()> copy_bytes(const std::shared_ptr<Symbols>& out) {
  const auto source = std::make_shared<Symbols>(out->size(), std::uint8_t{1});
  return [=] {
    const std::size_t parts = 64, part = out->size() / parts;
    parallel_for(parts, [&](std::size_t p) { std::memcpy(out->data() + p * part, source->data() + p * part, part); });
  };
}

Pair decoding(const std::string& name, double target, const Symbols& codes, const Symbols& of_run, std::uint64_t run,
              int contexts) {
  const auto runs = std::make_shared<Symbols>(of_run);
  const auto coded = std::make_shared<CodedSymbols>(encode_symbols(codes, 16, {*runs, run, contexts}));
  const auto out = std::make_shared<Symbols>(codes.size());
  return {name, "copying a byte for each code, all threads",
          [=] {
            decode_symbols(coded->bytes, 16, {*runs, run, contexts}, *out);
          },
          copy_bytes(out), target};
}

/// The stored bytes of 32 million weights back, codes and scales.
Pair restoring(const std::string& name, const char* grid) {
  MatrixF weights(8192, 4096);
  RandomStream random(1, "bench payload");
  for (float& w : weights.values()) w = static_cast<float>(0.02 * random.normal());
  Encoding encoding(grid_from_name(grid), weights.shape());
  encoding.fit_all(weights, std::vector<float>(weights.cols(), 1.0f), ScaleRule::minmax);
  for (std::size_t r = 0; r < weights.rows(); ++r) encoding.round_row(r, weights.row(r));
  const std::string format = grid;
  const Shape shape = weights.shape();
  const auto coded = std::make_shared<CodedPayload>(encode_payload(*encoding.finish()));
  const auto out = std::make_shared<Symbols>(shape.count());
  return {name, "copying a byte for each code, all threads",
          [=] {
            if (decode_payload(format, shape, coded->bytes).empty()) std::abort();
          },
          copy_bytes(out), 60};
}

std::vector<Pair> make_pairs() {
  const Symbols codes = gaussian_codes();
  // Four contexts that are too far apart to share tables: the codes of every second are shifted.
  Symbols shifted = codes, of_run(kCodes / 128 + 1), of_symbol(kCodes);
  for (std::size_t i = 0; i < of_run.size(); ++i) of_run[i] = static_cast<std::uint8_t>(i % 4);
  for (std::size_t i = 0; i < kCodes; ++i) {
    of_symbol[i] = of_run[i / 128];
    shifted[i] = static_cast<std::uint8_t>((codes[i] + 3 * of_symbol[i]) % 16);
  }
  return {decoding("decode_100M_codes", 30, codes, {}, 0, 1),
          decoding("decode_100M_codes_4_contexts_of_128", 35, shifted, of_run, 128, 4),
          decoding("decode_100M_codes_4_contexts_each", 70, shifted, of_symbol, 1, 4),
          restoring("restore_32M_int4_g128", "int4 g128 sym"), restoring("restore_32M_q4_k", "gguf/q4_k")};
}

const bool registered = add("entropy", &make_pairs);

}  // namespace
}  // namespace adze::bench
