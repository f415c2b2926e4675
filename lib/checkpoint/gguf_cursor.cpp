#include "checkpoint/gguf_cursor.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/error.h"

namespace adze {
namespace {

static_assert(std::endian::native == std::endian::little, "file formats are little-endian and read without swapping");

constexpr std::uint64_t kBufferBytes = std::uint64_t{256} << 10;

template <typename T>
T read_scalar(GgufCursor& cursor) {
  if constexpr (std::is_same_v<T, std::string>) {
    return cursor.text();
  } else if constexpr (std::is_same_v<T, bool>) {
    const auto byte = cursor.number<std::uint8_t>();
    if (byte > 1) fail(ErrorKind::bad_data, "BOOL holds {}, not 0 or 1", byte);
    return byte == 1;
  } else {
    return cursor.number<T>();
  }
}

/// The fewest bytes an element takes: a string has at least its length.
template <typename T>
constexpr std::uint64_t least_bytes() {
  if constexpr (std::is_same_v<T, std::string>) return sizeof(std::uint64_t);
  return sizeof(T);
}

template <typename T>
GgufValue read_array(GgufCursor& cursor) {
  const auto count = cursor.number<std::uint64_t>();
  if (count > kMaxGgufArrayCount || count > cursor.remaining() / least_bytes<T>())
    fail(ErrorKind::bad_data, "array of {} elements does not fit into the {} bytes that remain", count,
         cursor.remaining());
  std::vector<T> values;
  if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, bool>) {
    values.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) values.push_back(read_scalar<T>(cursor));
  } else {
    values.resize(count);
    cursor.read(std::as_writable_bytes(std::span(values)));
  }
  return values;
}

struct ValueReader {
  GgufValue (*scalar)(GgufCursor&) = nullptr;
  GgufValue (*array)(GgufCursor&) = nullptr;
};

template <typename T>
constexpr ValueReader reader_of() {
  return {[](GgufCursor& cursor) -> GgufValue { return read_scalar<T>(cursor); }, read_array<T>};
}

// In the order of GgufValueType; ARRAY itself has no reader.
constexpr std::array<ValueReader, kGgufValueTypes> kReaders{reader_of<std::uint8_t>(),  reader_of<std::int8_t>(),
                                                            reader_of<std::uint16_t>(), reader_of<std::int16_t>(),
                                                            reader_of<std::uint32_t>(), reader_of<std::int32_t>(),
                                                            reader_of<float>(),         reader_of<bool>(),
                                                            reader_of<std::string>(),   ValueReader{},
                                                            reader_of<std::uint64_t>(), reader_of<std::int64_t>(),
                                                            reader_of<double>()};

const ValueReader& reader_for(std::uint32_t type, std::string_view what) {
  if (type >= kReaders.size()) fail(ErrorKind::bad_data, "unknown {} type {}", what, type);
  return kReaders[type];
}

}  // namespace

void GgufCursor::fill() {
  buffer_start_ = position_;
  buffer_.resize(std::min(kBufferBytes, remaining()));
  file_.read(position_, buffer_);
}

void GgufCursor::read(std::span<std::byte> out) {
  if (out.size() > remaining())
    fail(ErrorKind::bad_data, "{} bytes are needed at byte {}, the file has {} more; it is cut short", out.size(),
         position_, remaining());
  while (!out.empty()) {
    if (position_ - buffer_start_ >= buffer_.size()) fill();
    const std::span<const std::byte> ready = std::span(buffer_).subspan(position_ - buffer_start_);
    const std::size_t count = std::min(ready.size(), out.size());
    std::memcpy(out.data(), ready.data(), count);
    out = out.subspan(count);
    position_ += count;
  }
}

std::string GgufCursor::text(std::uint64_t limit) {
  const auto length = number<std::uint64_t>();
  if (length > limit) fail(ErrorKind::bad_data, "string of {} bytes is above the limit of {}", length, limit);
  if (length > remaining())
    fail(ErrorKind::bad_data, "string of {} bytes does not fit into the {} bytes that remain", length, remaining());
  std::string text(length, '\0');
  read(std::as_writable_bytes(std::span(text)));
  return text;
}

GgufValue GgufCursor::value() {
  const auto type = number<std::uint32_t>();
  if (type != static_cast<std::uint32_t>(GgufValueType::array)) return reader_for(type, "value").scalar(*this);
  const auto element = number<std::uint32_t>();
  const ValueReader& reader = reader_for(element, "array element");
  if (reader.array == nullptr) fail(ErrorKind::bad_data, "an array of arrays is not supported");
  return reader.array(*this);
}

}  // namespace adze
