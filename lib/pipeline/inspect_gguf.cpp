// Inspection of GGUF files, split ones included.
#include <cmath>

#include "base/checked.h"
#include "checkpoint/gguf.h"
#include "grid/quantized_tensor.h"
#include "linalg/convert.h"
#include "model/gguf_weights.h"
#include "pipeline/inspect_kinds.h"

namespace adze::inspecting {
namespace {

constexpr std::size_t kMostCharacters = 60;
constexpr std::size_t kMostElements = 4;

/// The first bytes of a text, not cut inside a character.
std::string shortened(std::string_view text) {
  if (text.size() <= kMostCharacters) return fmt::format("\"{}\"", text);
  std::size_t end = kMostCharacters;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return fmt::format("\"{}\"... ({} bytes)", text.substr(0, end), text.size());
}

template <typename T>
std::string in_words(const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    return shortened(value);
  } else if constexpr (GgufArrayTraits<T>::value) {
    std::string words = fmt::format("{} values:", value.size());
    for (std::size_t i = 0; i < std::min(value.size(), kMostElements); ++i)
      words += " " + in_words(typename GgufArrayTraits<T>::Element(value[i]));
    return words + (value.size() > kMostElements ? " ..." : "");
  } else {
    return fmt::format("{}", value);
  }
}

std::vector<std::uint64_t> slowest_first(std::vector<std::uint64_t> dims) {
  std::ranges::reverse(dims);
  return dims;
}

/// Decodes every block, a piece of rows at a time, and looks for values that are not finite: scales and exponents that
/// no encoder writes.
void scan_blocks(const GgufFile& file, const GgufTensor& tensor, const char* grid) {
  constexpr std::uint64_t kPieceBytes = std::uint64_t{1} << 20;
  const auto cols = checked_cast<std::size_t>(tensor.dims.at(0));
  const std::uint64_t rows = checked_product(tensor.dims) / cols;
  const std::uint64_t row_bytes = tensor.bytes / rows;
  const std::uint64_t piece_rows = std::max<std::uint64_t>(1, kPieceBytes / row_bytes);
  for (std::uint64_t first = 0; first < rows; first += piece_rows) {
    const auto count = checked_cast<std::size_t>(std::min(piece_rows, rows - first));
    std::vector<std::byte> bytes(count * checked_cast<std::size_t>(row_bytes));
    file.read(tensor, first * row_bytes, bytes);
    const MatrixF values = QuantizedTensor(grid_from_name(grid), {count, cols}, std::move(bytes)).decode();
    if (all_finite(values.values())) continue;
    const auto at = std::ranges::find_if_not(values.values(), [](float value) { return std::isfinite(value); });
    fail(ErrorKind::bad_data, "non-finite value at element {}",
         first * cols + static_cast<std::uint64_t>(at - values.values().begin()));
  }
}

/// False for blocks that we cannot decode.
bool scan(const GgufFile& file, const GgufTensor& tensor) {
  const GgufReadableType* const type = find_readable_gguf_type(tensor.type->name);
  if (type != nullptr && !type->dtype) {
    scan_blocks(file, tensor, type->grid);
    return true;
  }
  scan_tensor(tensor.bytes, tensor.type->dtype,
              [&](std::uint64_t offset, std::span<std::byte> out) { file.read(tensor, offset, out); });
  return tensor.type->dtype.has_value();
}

/// All files of a split when `path` is its first one, otherwise just this one.
std::vector<GgufFile> open_files(const Path& path) {
  GgufFile file(path);
  const auto split = file.split();
  if (!split || split->number == 0) return open_gguf(path);
  std::vector<GgufFile> one;
  one.push_back(std::move(file));
  return one;
}

}  // namespace

void describe_gguf(const Path& path, Inspection& inspection) {
  const std::vector<GgufFile> files = open_files(path);
  const GgufFile& first = files.front();
  std::uint64_t bytes = 0;
  for (const GgufFile& file : files) {
    bytes += file.file_bytes();
    for (const GgufTensor& tensor : file.tensors())
      inspection.tensors.push_back(
          {tensor.name, std::string(tensor.type->name), slowest_first(tensor.dims), tensor.bytes});
  }
  add(inspection, "version", std::uint64_t{first.version()});
  add(inspection, "file_bytes", bytes);
  add(inspection, "alignment", std::uint64_t{first.alignment()});
  add(inspection, "tensors", std::uint64_t{inspection.tensors.size()});
  if (const auto split = first.split())
    add(inspection, "split", fmt::format("file {} of {}; {} opened", split->number + 1, split->count, files.size()));
  for (const GgufKeyValue& line : first.metadata())
    inspection.metadata.push_back({line.key, type_in_words(line.value),
                                   std::visit([](const auto& value) { return in_words(value); }, line.value)});
}

void verify_gguf(const Path& path, Inspection& inspection, Progress& progress) {
  const std::vector<GgufFile> files = open_files(path);
  progress.start("verifying", inspection.tensors.size());
  std::uint64_t done = 0;
  std::uint64_t not_decoded = 0;
  for (const GgufFile& file : files)
    for (const GgufTensor& tensor : file.tensors()) {
      check(inspection, [&] {
        with_context(fmt::format("tensor '{}'", tensor.name), [&] { not_decoded += !scan(file, tensor); });
      });
      progress.update(++done);
    }
  if (not_decoded > 0) add(inspection, "tensors_of_blocks_not_decoded", not_decoded);
}

}  // namespace adze::inspecting
