// Reads any bytes as coded symbols, as coded payloads, and, past the checksums that keep mutations out of both, as a
// table and a chunk coded with it. The first five bytes say which. What is accepted must come back when coded again.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "base/error.h"
#include "entropy/coded_symbols.h"
#include "entropy/rans.h"
#include "grid/coded/coded_payload.h"

namespace {

using Symbols = std::vector<std::uint8_t>;

constexpr std::size_t kPrefix = 5;

void read_symbols(std::span<const std::byte> coded, int alphabet, std::uint64_t run, int contexts, std::size_t count) {
  Symbols of_run(count / run + 1), out(count), twice(count);
  for (std::size_t i = 0; i < of_run.size(); ++i)
    of_run[i] = static_cast<std::uint8_t>(i % static_cast<std::size_t>(contexts));
  const adze::Contexts given{of_run, run, contexts};
  adze::decode_symbols(coded, alphabet, given, out);
  decode_symbols(encode_symbols(out, alphabet, given).bytes, alphabet, given, twice);
  if (twice != out) std::abort();
}

void read_chunk(std::span<const std::byte> bytes, int alphabet, std::size_t count) {
  const adze::FrequencyTable table = adze::FrequencyTable::read(alphabet, bytes);
  const adze::DecodingTable decoding(table);
  const Symbols one_table{0};
  Symbols out(count);
  adze::rans_decode(bytes, {&decoding, 1}, {one_table, count + 2, 0}, out);
  const std::vector<std::byte> again = adze::rans_encode(out, {&table, 1}, {one_table, count + 2, 0});
  if (!std::ranges::equal(again, bytes)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kPrefix) return 0;
  const std::span<const std::byte> coded(reinterpret_cast<const std::byte*>(data) + kPrefix, size - kPrefix);
  const int alphabet = 2 + data[1] % 255;
  const std::size_t count = (std::size_t{data[3]} | std::size_t{data[4]} << 8) * 2;
  try {
    if (data[0] == 0) {
      static const std::string formats[]{"int4 g32 asym", "gguf/q4_k", "int4 tensor sym", "f16", "gguf/tq1_0"};
      adze::decode_payload(formats[data[1] % std::size(formats)], {std::size_t{data[2]} + 1, 256}, coded);
    } else if (data[0] == 1) {
      read_chunk(coded, alphabet, count);
    } else {
      read_symbols(coded, alphabet, 1 + data[2] % 64, 1 + data[0] % 8, count);
    }
  } catch (const adze::Error& error) {
    if (error.kind() != adze::ErrorKind::bad_data) std::abort();
  }
  return 0;
}
