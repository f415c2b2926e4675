#include "export/gguf/split.h"

#include <limits>

#include "base/checked.h"
#include "base/error.h"
#include "base/words.h"

namespace adze {
namespace {

constexpr std::size_t kMostParts = std::numeric_limits<std::uint16_t>::max();

std::vector<GgufKeyValue> split_keys(std::size_t number, std::size_t count, std::size_t tensors) {
  return {{"split.no", checked_cast<std::uint16_t>(number)},
          {"split.count", checked_cast<std::uint16_t>(count)},
          {"split.tensors.count", checked_cast<std::int32_t>(tensors)}};
}

/// Size of a file that grows by one tensor after the other.
class FileSize {
 public:
  explicit FileSize(std::uint64_t metadata_bytes) : header_(kGgufFixedHeaderBytes + metadata_bytes) {}

  std::uint64_t bytes() const { return checked_add(round_up(header_, kGgufAlignment), data_); }
  FileSize with(const GgufTensorSpec& tensor) const {
    FileSize grown = *this;
    grown.header_ = checked_add(header_, gguf_info_bytes(tensor));
    grown.data_ = checked_add(data_, round_up(gguf_tensor_bytes(gguf_type(tensor.type), tensor.dims), kGgufAlignment));
    return grown;
  }

 private:
  std::uint64_t header_;
  std::uint64_t data_ = 0;
};

/// Which tensors go into which file.
std::vector<std::vector<GgufTensorSpec>> distribute(std::span<const GgufTensorSpec> tensors, FileSize first,
                                                    FileSize other, std::uint64_t max_bytes) {
  if (first.bytes() > max_bytes)
    fail(ErrorKind::bad_data, "the metadata alone take {} ({} bytes), more than the {} of one file; raise the limit",
         bytes_in_words(first.bytes()), first.bytes(), max_bytes);
  std::vector<std::vector<GgufTensorSpec>> files(1);
  FileSize size = first;
  for (const GgufTensorSpec& tensor : tensors) {
    if (other.with(tensor).bytes() > max_bytes)
      fail(ErrorKind::bad_data,
           "tensor '{}' takes {} ({} bytes) with its header, more than the {} of one file; raise "
           "the limit",
           tensor.name, bytes_in_words(other.with(tensor).bytes()), other.with(tensor).bytes(), max_bytes);
    if (size.with(tensor).bytes() > max_bytes) {
      files.emplace_back();
      size = other;
    }
    files.back().push_back(tensor);
    size = size.with(tensor);
  }
  return files;
}

}  // namespace

std::vector<GgufPart> split_gguf(const GgufContent& content, std::uint64_t max_bytes) {
  const std::uint64_t whole = predict_gguf_bytes(content.metadata, content.tensors);
  if (max_bytes == 0 || whole <= max_bytes) return {{content.metadata, content.tensors}};
  const std::uint64_t split_bytes = gguf_metadata_bytes(split_keys(0, 1, 1));  // the same for all numbers
  const auto files = distribute(content.tensors, FileSize(gguf_metadata_bytes(content.metadata) + split_bytes),
                                FileSize(split_bytes), max_bytes);
  if (files.size() > kMostParts)
    fail(ErrorKind::bad_data, "{} files, more than the {} of a split; raise the limit", files.size(), kMostParts);
  std::vector<GgufPart> parts;
  for (std::size_t i = 0; i < files.size(); ++i) {
    GgufPart& part = parts.emplace_back();
    if (i == 0) part.metadata = content.metadata;
    for (GgufKeyValue& key : split_keys(i, files.size(), content.tensors.size()))
      part.metadata.push_back(std::move(key));
    part.tensors = files[i];
  }
  return parts;
}

std::uint64_t predict_gguf_bytes(std::span<const GgufPart> parts) {
  std::uint64_t bytes = 0;
  for (const GgufPart& part : parts) bytes = checked_add(bytes, predict_gguf_bytes(part.metadata, part.tensors));
  return bytes;
}

}  // namespace adze
