#include "checkpoint/safetensors_writer.h"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/checked.h"

namespace adze {
namespace {

/// A JSON string literal. Throws bad_data when `text` is not UTF-8.
std::string quoted(const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    fail(ErrorKind::bad_data, "a name or metadata value is not valid UTF-8");
  }
}

void check_name(const std::string& name) {
  if (name.empty() || name.size() > kMaxTensorNameBytes || name.find('\0') != std::string::npos ||
      name == "__metadata__")
    fail(ErrorKind::bad_data, "'{}' cannot be the name of a tensor", name.substr(0, 100));
}

/// Sorts as the reference writer does (type descending, name ascending) and gives every tensor its place.
std::vector<SafetensorsTensor> place_tensors(std::vector<SafetensorsSpec> specs) {
  std::ranges::sort(specs,
                    [](const auto& a, const auto& b) { return a.type != b.type ? a.type > b.type : a.name < b.name; });
  std::vector<SafetensorsTensor> tensors;
  std::uint64_t end = 0;
  for (SafetensorsSpec& spec : specs) {
    check_name(spec.name);
    const std::uint64_t bytes =
        with_context(fmt::format("tensor '{}'", spec.name), [&] { return safetensors_bytes(spec.type, spec.shape); });
    const std::uint64_t begin = std::exchange(end, checked_add(end, bytes));
    tensors.push_back({std::move(spec.name), spec.type, std::move(spec.shape), begin, end});
  }
  return tensors;
}

void check_unique(std::span<const SafetensorsTensor> tensors) {
  std::vector<std::string_view> names;
  for (const SafetensorsTensor& tensor : tensors) names.push_back(tensor.name);
  std::ranges::sort(names);
  if (const auto twin = std::ranges::adjacent_find(names); twin != names.end())
    fail(ErrorKind::bad_data, "two tensors are named '{}'", *twin);
}

std::string header_entry(const SafetensorsTensor& tensor) {
  return fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", quoted(tensor.name),
                     name_of(tensor.type), fmt::join(tensor.shape, ","), tensor.begin, tensor.end);
}

std::string header_text(std::span<const SafetensorsTensor> tensors, const SafetensorsMetadata& metadata) {
  std::vector<std::string> parts;
  std::vector<std::string> pairs;
  for (const auto& [key, value] : metadata) pairs.push_back(quoted(key) + ":" + quoted(value));
  if (!pairs.empty()) parts.push_back(fmt::format(R"("__metadata__":{{{}}})", fmt::join(pairs, ",")));
  for (const SafetensorsTensor& tensor : tensors) parts.push_back(header_entry(tensor));
  std::string text = fmt::format("{{{}}}", fmt::join(parts, ","));
  text.resize(round_up(text.size(), 8), ' ');
  if (text.size() > kMaxSafetensorsHeaderBytes)
    fail(ErrorKind::bad_data, "header of {} bytes is above the limit of {}; write several files", text.size(),
         kMaxSafetensorsHeaderBytes);
  return text;
}

}  // namespace

SafetensorsLayout safetensors_layout(std::vector<SafetensorsSpec> specs, const SafetensorsMetadata& metadata) {
  SafetensorsLayout layout{place_tensors(std::move(specs)), 0};
  check_unique(layout.tensors);
  layout.data_start = sizeof(std::uint64_t) + header_text(layout.tensors, metadata).size();
  return layout;
}

std::uint64_t safetensors_file_bytes(std::vector<SafetensorsSpec> specs, const SafetensorsMetadata& metadata) {
  const SafetensorsLayout layout = safetensors_layout(std::move(specs), metadata);
  return checked_add(layout.data_start, layout.tensors.empty() ? 0 : layout.tensors.back().end);
}

std::uint64_t bytes_in_safetensors(const SafetensorsSpec& tensor, std::uint64_t end) {
  constexpr std::uint64_t kComma = 1;
  const std::uint64_t bytes = safetensors_bytes(tensor.type, tensor.shape);
  const std::string entry = header_entry({tensor.name, tensor.type, tensor.shape, end, checked_add(end, bytes)});
  return checked_add(bytes, entry.size() + kComma);
}

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path, std::vector<SafetensorsSpec> tensors,
                                     const SafetensorsMetadata& metadata)
    : tensors_(with_context(path.string(), [&] { return place_tensors(std::move(tensors)); })), file_(path) {
  with_context(path.string(), [&] {
    check_unique(tensors_);
    const std::string text = header_text(tensors_, metadata);
    const std::uint64_t length = text.size();
    file_.write(std::as_bytes(std::span(&length, 1)));
    file_.write(text);
  });
  data_start_ = file_.bytes_written();
  skip_finished();
}

std::uint64_t SafetensorsWriter::file_bytes() const {
  return data_start_ + (tensors_.empty() ? 0 : tensors_.back().end);
}

void SafetensorsWriter::skip_finished() {
  while (current_ < tensors_.size() && tensors_[current_].end == file_.bytes_written() - data_start_) ++current_;
}

void SafetensorsWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  if (current_ == tensors_.size() || tensors_[current_].name != name)
    fail(ErrorKind::internal, "tensor '{}' was written when it was the turn of '{}'", name,
         current_ == tensors_.size() ? "none" : tensors_[current_].name);
  const std::uint64_t left = data_start_ + tensors_[current_].end - file_.bytes_written();
  if (bytes.size() > left)
    fail(ErrorKind::internal, "tensor '{}': {} bytes written where {} are left", name, bytes.size(), left);
  file_.write(bytes);
  skip_finished();
}

void SafetensorsWriter::commit(Durable when) {
  if (current_ != tensors_.size())
    fail(ErrorKind::internal, "tensor '{}' is incomplete at commit", tensors_[current_].name);
  file_.commit(when);
}

void write_safetensors(const std::filesystem::path& path, std::span<const SafetensorsItem> items,
                       const SafetensorsMetadata& metadata) {
  std::vector<SafetensorsSpec> specs;
  std::map<std::string_view, std::span<const std::byte>> data;
  for (const SafetensorsItem& item : items) {
    specs.push_back(item.spec);
    data.emplace(item.spec.name, item.data);
  }
  SafetensorsWriter writer(path, std::move(specs), metadata);
  for (const SafetensorsTensor& tensor : writer.order()) {
    if (data.at(tensor.name).size() != tensor.bytes())
      fail(ErrorKind::bad_data, "{}: tensor '{}': {} bytes of data, shape and dtype need {}", path.string(),
           tensor.name, data.at(tensor.name).size(), tensor.bytes());
    writer.write(tensor.name, data.at(tensor.name));
  }
  writer.commit();
}

}  // namespace adze
