#include "checkpoint/imatrix_dat.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/checked.h"
#include "base/error.h"

namespace adze {
namespace {

constexpr std::size_t kLeastEntryBytes = 4 + 1 + 4 + 4 + 4;  // lengths and counts, a name of 1 byte, one value
constexpr std::size_t kMostName = 4096;

class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}

  std::size_t remaining() const { return bytes_.size() - at_; }
  std::string_view take(std::size_t count, std::string_view what) {
    if (count > remaining())
      fail(ErrorKind::bad_data, "{} of {} bytes where {} remain: no importance matrix, or cut short", what, count,
           remaining());
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }
  /// A number that must not be below `least` nor above `most`.
  std::size_t count(std::string_view what, std::int64_t least, std::size_t most) {
    std::int32_t value = 0;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    if (value < least || static_cast<std::size_t>(value) > most)
      fail(ErrorKind::bad_data, "{} is {}, not within {} to {}: no importance matrix, or damaged", what, value, least,
           most);
    return static_cast<std::size_t>(value);
  }

 private:
  std::string_view bytes_;
  std::size_t at_ = 0;
};

constexpr std::size_t kMostCalls = std::numeric_limits<std::int32_t>::max();

ImatrixEntry read_entry(Cursor& cursor) {
  ImatrixEntry entry;
  entry.tensor = cursor.take(cursor.count("length of a name", 1, kMostName), "a name");
  with_context(fmt::format("tensor '{}'", entry.tensor), [&] {
    entry.counts = {static_cast<double>(cursor.count("number of calls", 0, kMostCalls))};
    entry.sums.resize(cursor.count("number of values", 1, cursor.remaining() / sizeof(float)));
    const std::string_view values = cursor.take(entry.sums.size() * sizeof(float), "values");
    std::memcpy(entry.sums.data(), values.data(), values.size());
  });
  return entry;
}

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put_count(std::string& out, std::size_t count) { put(out, checked_cast<std::int32_t>(count)); }
void put_text(std::string& out, const std::string& text) {
  put_count(out, text.size());
  out += text;
}

/// One count for all matrices, the largest: means are kept.
void put_entry(std::string& out, const ImatrixEntry& entry) {
  const double calls = *std::ranges::max_element(entry.counts);
  if (calls != std::floor(calls) || calls > static_cast<double>(kMostCalls))
    fail(ErrorKind::bad_data, "tensor '{}': a count of {} is no whole number below 2^31, as a .dat file needs it",
         entry.tensor, calls);
  put_text(out, entry.tensor);
  put_count(out, static_cast<std::size_t>(calls));
  put_count(out, entry.sums.size());
  const std::vector<float> means = entry.means();
  for (std::size_t i = 0; i < entry.sums.size(); ++i)
    put(out, entry.counts.size() == 1 ? entry.sums[i] : static_cast<float>(means[i] * calls));
}

}  // namespace

Imatrix parse_imatrix_dat(std::string_view bytes) {
  Cursor cursor(bytes);
  Imatrix imatrix;
  const std::size_t entries = cursor.count("number of entries", 1, bytes.size() / kLeastEntryBytes);
  for (std::size_t i = 0; i < entries; ++i) imatrix.entries.push_back(read_entry(cursor));
  if (cursor.remaining() == 0) return imatrix;
  imatrix.chunks = static_cast<std::uint32_t>(cursor.count("number of chunks", 0, kMostCalls));
  const std::size_t length = cursor.count("length of the text's name", 0, cursor.remaining());
  if (length > 0) imatrix.datasets.emplace_back(cursor.take(length, "the text's name"));
  if (cursor.remaining() > 0) fail(ErrorKind::bad_data, "{} bytes after the end", cursor.remaining());
  return imatrix;
}

std::string imatrix_dat_bytes(const Imatrix& imatrix) {
  std::string out;
  put_count(out, imatrix.entries.size());
  for (const ImatrixEntry& entry : imatrix.entries) put_entry(out, entry);
  put_count(out, imatrix.chunks);
  put_text(out, imatrix.datasets.empty() ? "" : imatrix.datasets.front());
  return out;
}

}  // namespace adze
