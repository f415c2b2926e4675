#include "checkpoint/gguf_writer.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/checked.h"

namespace adze {
namespace {

constexpr std::uint32_t kVersion = 3;
constexpr std::size_t kMaxKeyBytes = 65535;
constexpr std::size_t kMaxNameBytes = 63;

template <typename T>
void put(std::string& out, const T& value) {
  if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, std::string_view>) {
    put(out, std::uint64_t{value.size()});
    out += value;
  } else if constexpr (std::is_same_v<T, bool>) {
    out += value ? '\1' : '\0';
  } else {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
}

template <typename T>
void put_value(std::string& out, const T& value) {
  if constexpr (GgufArrayTraits<T>::value) {
    using Element = typename GgufArrayTraits<T>::Element;
    if (value.empty()) fail(ErrorKind::bad_data, "an empty array; leave the key out instead");
    put(out, GgufValueType::array);
    put(out, gguf_value_type<Element>());
    put(out, std::uint64_t{value.size()});
    for (const Element& element : value) put(out, element);
  } else {
    if constexpr (std::is_same_v<T, std::string>)
      if (value.empty()) fail(ErrorKind::bad_data, "an empty string; leave the key out instead");
    put(out, gguf_value_type<T>());
    put(out, value);
  }
}

bool is_key_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

void check_key(const GgufKeyValue& pair) {
  if (!is_gguf_key(pair.key)) fail(ErrorKind::bad_data, "'{}' is not a valid key", pair.key.substr(0, 100));
  if (pair.key == "general.alignment" && pair.value != GgufValue{kGgufAlignment})
    fail(ErrorKind::bad_data, "key 'general.alignment': only UINT32 {} is written", kGgufAlignment);
}

void put_metadata(std::string& out, std::span<const GgufKeyValue> metadata) {
  std::set<std::string_view> seen;
  for (const GgufKeyValue& pair : metadata) {
    check_key(pair);
    if (!seen.insert(pair.key).second) fail(ErrorKind::bad_data, "duplicate key '{}'", pair.key);
    put(out, pair.key);
    with_context(fmt::format("key '{}'", pair.key),
                 [&] { std::visit([&](const auto& value) { put_value(out, value); }, pair.value); });
  }
}

void check_name(const std::string& name) {
  if (name.empty() || name.size() > kMaxNameBytes || name.find('\0') != std::string::npos)
    fail(ErrorKind::bad_data, "'{}' cannot be a tensor name: 1 to {} bytes are allowed", name.substr(0, 100),
         kMaxNameBytes);
}

std::uint64_t padded(std::uint64_t size) {
  return checked_add(size, (kGgufAlignment - size % kGgufAlignment) % kGgufAlignment);
}

/// Checks the tensors and gives them their offsets, still relative to the data section.
std::vector<GgufTensor> place_tensors(std::span<const GgufTensorSpec> specs) {
  std::vector<GgufTensor> tensors;
  std::set<std::string_view> seen;
  std::uint64_t offset = 0;
  for (const GgufTensorSpec& spec : specs) {
    check_name(spec.name);
    if (!seen.insert(spec.name).second) fail(ErrorKind::bad_data, "duplicate tensor '{}'", spec.name);
    with_context(fmt::format("tensor '{}'", spec.name), [&] {
      if (spec.dims.empty()) fail(ErrorKind::bad_data, "no dimensions; give a scalar one dimension of 1");
      const GgufType& type = gguf_type(spec.type);
      tensors.push_back({spec.name, &type, spec.dims, offset, gguf_tensor_bytes(type, spec.dims)});
      offset = padded(checked_add(offset, tensors.back().bytes));
    });
  }
  return tensors;
}

void put_infos(std::string& out, std::span<const GgufTensor> tensors) {
  for (const GgufTensor& tensor : tensors) {
    put(out, tensor.name);
    put(out, checked_cast<std::uint32_t>(tensor.dims.size()));
    for (const std::uint64_t dim : tensor.dims) put(out, dim);
    put(out, tensor.type->id);
    put(out, tensor.offset);
  }
}

}  // namespace

bool is_gguf_key(std::string_view key) {
  return !key.empty() && key.size() <= kMaxKeyBytes && std::ranges::all_of(key, is_key_letter);
}

GgufLayout layout_gguf(std::span<const GgufKeyValue> metadata, std::span<const GgufTensorSpec> specs) {
  GgufLayout layout;
  layout.tensors = place_tensors(specs);
  std::string& header = layout.header;
  header = "GGUF";
  put(header, kVersion);
  put(header, std::uint64_t{specs.size()});
  put(header, std::uint64_t{metadata.size()});
  put_metadata(header, metadata);
  put_infos(header, layout.tensors);
  header.resize(padded(header.size()), '\0');
  layout.file_bytes = header.size();
  for (GgufTensor& tensor : layout.tensors) {
    tensor.offset = checked_add(tensor.offset, header.size());
    layout.file_bytes = padded(checked_add(tensor.offset, tensor.bytes));
  }
  return layout;
}

std::uint64_t gguf_metadata_bytes(std::span<const GgufKeyValue> metadata) {
  std::string records;
  put_metadata(records, metadata);
  return records.size();
}

/// As put_infos() writes it: name with its length, number of dimensions, dimensions, type, offset.
std::uint64_t gguf_info_bytes(const GgufTensorSpec& tensor) {
  return 8 + tensor.name.size() + 4 + 8 * std::uint64_t{tensor.dims.size()} + 4 + 8;
}

std::uint64_t predict_gguf_bytes(std::span<const GgufKeyValue> metadata, std::span<const GgufTensorSpec> tensors) {
  return layout_gguf(metadata, tensors).file_bytes;
}

GgufWriter::GgufWriter(std::filesystem::path path, std::span<const GgufKeyValue> metadata,
                       std::span<const GgufTensorSpec> tensors)
    : layout_(with_context(path.string(), [&] { return layout_gguf(metadata, tensors); })), file_(path) {
  file_.write(layout_.header);
}

/// Fills the gap between a finished tensor and the next multiple of the alignment.
void GgufWriter::pad() {
  const std::string zeros(padded(file_.bytes_written()) - file_.bytes_written(), '\0');
  file_.write(zeros);
}

void GgufWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  if (current_ == layout_.tensors.size() || layout_.tensors[current_].name != name)
    fail(ErrorKind::internal, "tensor '{}' was written when it was the turn of '{}'", name,
         current_ == layout_.tensors.size() ? "none" : layout_.tensors[current_].name);
  const GgufTensor& tensor = layout_.tensors[current_];
  const std::uint64_t left = tensor.offset + tensor.bytes - file_.bytes_written();
  if (bytes.size() > left)
    fail(ErrorKind::internal, "tensor '{}': {} bytes written where {} are left", name, bytes.size(), left);
  file_.write(bytes);
  if (bytes.size() < left) return;
  pad();
  ++current_;
}

void GgufWriter::commit(Durable when) {
  if (current_ != layout_.tensors.size())
    fail(ErrorKind::internal, "tensor '{}' is incomplete at commit", layout_.tensors[current_].name);
  file_.commit(when);
}

}  // namespace adze
