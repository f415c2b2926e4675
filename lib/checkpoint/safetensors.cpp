#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"

namespace adze {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "file formats are little-endian and read without swapping");

constexpr std::string_view kMetadataKey = "__metadata__";
constexpr std::size_t kHeaderDepth = 4;  // root, tensor, array: 3 are used
constexpr std::uint64_t kLengthBytes = 8;

/// What the JSON parser would let pass: it takes a NUL for the end of the text and skips a byte order mark.
void check_text(std::string_view text, std::string_view origin) {
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos)
    fail(ErrorKind::bad_data, "{}: header byte {} is NUL", origin, nul);
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || text[first] != '{')
    fail(ErrorKind::bad_data, "{}: the header is not a JSON object", origin);
}

void check_name(const std::string& name) {
  if (name.empty()) fail(ErrorKind::bad_data, "a tensor has an empty name");
  if (name.size() > kMaxTensorNameBytes)
    fail(ErrorKind::bad_data, "a tensor name of {} bytes is above the limit of {}", name.size(), kMaxTensorNameBytes);
  if (name.find('\0') != std::string::npos) fail(ErrorKind::bad_data, "a tensor name contains NUL");
}

std::uint64_t read_integer(const json& value, std::string_view field) {
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kMax)
    fail(ErrorKind::bad_data, "{} holds {}, not an integer from 0 to 2^63-1", field, value.dump());
  return value.get<std::uint64_t>();
}

std::vector<std::uint64_t> read_integers(const json& value, std::string_view field) {
  if (!value.is_array()) fail(ErrorKind::bad_data, "{} is not an array", field);
  std::vector<std::uint64_t> numbers;
  numbers.reserve(value.size());
  for (const json& item : value) numbers.push_back(read_integer(item, field));
  return numbers;
}

SafetensorsType read_type(const json& value) {
  if (!value.is_string()) fail(ErrorKind::bad_data, "dtype is not a string");
  const auto& name = value.get_ref<const std::string&>();
  const auto type = safetensors_type_from_name(name);
  if (!type) fail(ErrorKind::bad_data, "unknown dtype '{}'; the file needs a newer reader or is damaged", name);
  return *type;
}

void check_fields(const json& value) {
  constexpr std::array<std::string_view, 3> kFields{"dtype", "shape", "data_offsets"};
  if (!value.is_object()) fail(ErrorKind::bad_data, "its entry is not an object");
  for (const std::string_view field : kFields)
    if (!value.contains(field)) fail(ErrorKind::bad_data, "'{}' is missing", field);
  for (const auto& [key, unused] : value.items())
    if (std::ranges::find(kFields, key) == kFields.end()) fail(ErrorKind::bad_data, "unknown field '{}'", key);
}

SafetensorsTensor read_tensor(const std::string& name, const json& value) {
  check_fields(value);
  SafetensorsTensor tensor{name, read_type(value["dtype"]), read_integers(value["shape"], "shape"), 0, 0};
  const auto offsets = read_integers(value["data_offsets"], "data_offsets");
  if (offsets.size() != 2) fail(ErrorKind::bad_data, "data_offsets holds {} numbers instead of 2", offsets.size());
  tensor.begin = offsets[0];
  tensor.end = offsets[1];
  if (tensor.end < tensor.begin)
    fail(ErrorKind::bad_data, "data_offsets end at {} before they begin at {}", tensor.end, tensor.begin);
  const std::uint64_t expected = safetensors_bytes(tensor.type, tensor.shape);
  if (tensor.bytes() != expected)
    fail(ErrorKind::bad_data, "data_offsets span {} bytes, shape and dtype need {}", tensor.bytes(), expected);
  return tensor;
}

std::map<std::string, std::string> read_metadata(const json& value) {
  if (!value.is_object()) fail(ErrorKind::bad_data, "__metadata__ is not an object");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) fail(ErrorKind::bad_data, "__metadata__: the value of '{}' is not a string", key);
    metadata.emplace(key, text.get<std::string>());
  }
  return metadata;
}

/// Sorted by (begin, end), each tensor must start where the one before ended, and the last end where the file does.
void check_contiguous(std::span<const SafetensorsTensor> tensors, std::uint64_t data_bytes) {
  std::vector<const SafetensorsTensor*> order;
  order.reserve(tensors.size());
  for (const SafetensorsTensor& tensor : tensors) order.push_back(&tensor);
  std::ranges::sort(order, {}, [](const auto* tensor) { return std::pair(tensor->begin, tensor->end); });
  std::uint64_t end = 0;
  for (const SafetensorsTensor* const tensor : order) {
    if (tensor->begin != end)
      fail(ErrorKind::bad_data, "tensor '{}': begins at {} where the data before it ends at {}: {}", tensor->name,
           tensor->begin, end, tensor->begin > end ? "a hole" : "an overlap");
    end = tensor->end;
  }
  if (end != data_bytes)
    fail(ErrorKind::bad_data, "the tensors need {} bytes of data, the file has {}{}", end, data_bytes,
         end > data_bytes ? "; it is cut short" : ": trailing bytes");
}

std::string read_header_text(const InputFile& file) {
  if (file.size() < kLengthBytes)
    fail(ErrorKind::bad_data, "{}: {} bytes are too few for a safetensors file", file.path().string(), file.size());
  std::uint64_t length = 0;
  file.read(0, std::as_writable_bytes(std::span(&length, 1)));
  if (length > kMaxSafetensorsHeaderBytes)
    fail(ErrorKind::bad_data, "{}: header of {} bytes is above the limit of {}; not a safetensors file?",
         file.path().string(), length, kMaxSafetensorsHeaderBytes);
  if (length > file.size() - kLengthBytes)
    fail(ErrorKind::bad_data, "{}: header of {} bytes does not fit into the file of {}", file.path().string(), length,
         file.size());
  std::string text(length, '\0');
  file.read(kLengthBytes, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view text, std::uint64_t data_bytes, std::string_view origin) {
  check_text(text, origin);
  const json root = parse_json(text, origin, kHeaderDepth);
  return with_context(origin, [&] {
    SafetensorsHeader header;
    for (const auto& [name, value] : root.items()) {
      if (name == kMetadataKey) {
        header.metadata = read_metadata(value);
        continue;
      }
      check_name(name);
      const json& entry = value;
      header.tensors.push_back(
          with_context(fmt::format("tensor '{}'", name), [&, &key = name] { return read_tensor(key, entry); }));
    }
    std::ranges::sort(header.tensors, {}, &SafetensorsTensor::name);
    check_contiguous(header.tensors, data_bytes);
    return header;
  });
}

SafetensorsFile::SafetensorsFile(std::filesystem::path path) : file_(std::move(path)) {
  const std::string text = read_header_text(file_);
  data_start_ = kLengthBytes + text.size();
  header_ = parse_safetensors_header(text, file_.size() - data_start_, file_.path().string());
}

const SafetensorsTensor* SafetensorsFile::find(std::string_view name) const {
  const auto at = std::ranges::lower_bound(header_.tensors, name, {}, &SafetensorsTensor::name);
  return at != header_.tensors.end() && at->name == name ? &*at : nullptr;
}

}  // namespace adze
