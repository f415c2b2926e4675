#include "pipeline/inspect.h"

#include <array>
#include <map>

#include "base/checked.h"
#include "base/file.h"
#include "calibrate/statistics_folder.h"
#include "checkpoint/finite_scan.h"
#include "checkpoint/imatrix.h"
#include "model/compressed_store.h"
#include "model/pack/manifest.h"
#include "pipeline/inspect_kinds.h"
#include "pipeline/work_folder.h"

namespace adze {
namespace inspecting {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPieceBytes = std::size_t{8} << 20;  // a multiple of every element

/// True for a regular file that begins with `magic`.
bool begins_with(const Path& path, std::string_view magic) {
  if (!fs::is_regular_file(path)) return false;
  const InputFile file(path);
  if (file.size() < magic.size()) return false;
  std::string start(magic.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(start)));
  return start == magic;
}

bool holds_safetensors(const Path& folder) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") return true;
  return false;
}

bool is_compressed(const Path& path) {
  return fs::exists(path / kManifestName) && fs::exists(path / "store" / kOuterFileName);
}
bool is_unfinished(const Path& path) { return !fs::exists(path / kManifestName) && fs::exists(path / "work" / "lock"); }
bool is_store_folder(const Path& path) { return fs::exists(path / kOuterFileName); }
bool is_checkpoint(const Path& path) {
  return fs::is_directory(path) && (fs::exists(path / "config.json") || holds_safetensors(path));
}
bool is_gguf(const Path& path) { return begins_with(path, "GGUF"); }
bool is_imatrix_gguf(const Path& path) { return is_gguf(path) && is_imatrix(path); }
/// These files begin with no magic number: the whole of it has to make sense.
bool is_imatrix_dat(const Path& path) { return fs::is_regular_file(path) && is_imatrix(path); }
bool is_hdf5(const Path& path) { return begins_with(path, "\x89HDF\r\n\x1a\n"); }
bool is_safetensors(const Path& path) { return fs::is_regular_file(path) && path.extension() == ".safetensors"; }

struct Kind {
  std::string_view name;
  bool (*matches)(const Path&);
  void (*describe)(const Path&, Inspection&);
  void (*verify)(const Path&, Inspection&, Progress&);
};

/// The first that matches counts.
constexpr std::array kKinds{
    Kind{"statistics", is_statistics_folder, describe_statistics, verify_statistics},
    Kind{"compressed model", is_compressed, describe_compressed, verify_compressed},
    Kind{"unfinished run of adze-compress", is_unfinished, describe_unfinished, verify_unfinished},
    Kind{"compressed store", is_store_folder, describe_store_folder, verify_store_folder},
    Kind{"checkpoint", is_checkpoint, describe_checkpoint, verify_checkpoint},
    Kind{"importance matrix", is_imatrix_gguf, describe_imatrix, verify_imatrix},
    Kind{"GGUF file", is_gguf, describe_gguf, verify_gguf},
    Kind{"pack", is_pack, describe_pack, verify_pack},
    Kind{"model store", is_hdf5, describe_model_store, verify_model_store},
    Kind{"safetensors file", is_safetensors, describe_safetensors, verify_safetensors},
    Kind{"importance matrix", is_imatrix_dat, describe_imatrix, verify_imatrix},
};

const Kind& kind_of(const Path& path) {
  if (!fs::exists(path)) fail(ErrorKind::missing_input, "{}: does not exist", path.string());
  for (const Kind& kind : kKinds)
    if (kind.matches(path)) return kind;
  fail(ErrorKind::bad_data,
       "{}: is nothing that adze knows: no safetensors or GGUF file, pack, checkpoint, model store, output of "
       "adze-compress, "
       "statistics or importance matrix",
       path.string());
}

}  // namespace

void add_architecture(Inspection& inspection, const Architecture& a) {
  add(inspection, "family", a.family);
  if (a.is_listed()) return;  // nothing else is known
  const std::pair<const char*, std::size_t> sizes[] = {
      {"layers", a.layers},     {"hidden", a.hidden},     {"ffn", a.ffn},     {"heads", a.heads},
      {"kv_heads", a.kv_heads}, {"head_dim", a.head_dim}, {"vocab", a.vocab}, {"context", a.max_positions}};
  for (const auto& [name, size] : sizes) add(inspection, name, std::uint64_t{size});
  add(inspection, "tied", a.tied);
}

void scan_tensor(std::uint64_t bytes, std::optional<DType> dtype, const ReadPiece& read) {
  std::vector<std::byte> piece(std::min<std::uint64_t>(kPieceBytes, bytes));
  for (std::uint64_t offset = 0; offset < bytes; offset += piece.size()) {
    const std::span part = std::span(piece).first(std::min<std::uint64_t>(piece.size(), bytes - offset));
    read(offset, part);
    if (!dtype) continue;
    if (const auto at = find_non_finite(*dtype, part))
      fail(ErrorKind::bad_data, "non-finite value at element {}", offset / bytes_of(*dtype) + *at);
  }
}

}  // namespace inspecting

std::vector<InspectFormat> Inspection::formats() const {
  std::map<std::string, InspectFormat> lines;
  for (const InspectTensor& tensor : tensors) {
    InspectFormat& line = lines[tensor.type];
    line.type = tensor.type;
    ++line.tensors;
    line.weights = checked_add(line.weights, checked_product(tensor.shape));
    line.bytes = checked_add(line.bytes, tensor.bytes);
  }
  std::vector<InspectFormat> formats;
  for (auto& [type, line] : lines) formats.push_back(std::move(line));
  return formats;
}

Inspection inspect(const std::filesystem::path& path, const InspectOptions& options, Progress& progress) {
  const inspecting::Kind& kind = inspecting::kind_of(path);
  Inspection inspection;
  inspection.path = path;
  inspection.kind = kind.name;
  kind.describe(path, inspection);
  if (!options.verify) return inspection;
  kind.verify(path, inspection, progress);
  inspection.verified = true;
  return inspection;
}

}  // namespace adze
