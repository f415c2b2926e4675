#include <algorithm>
#include <bit>
#include <functional>
#include <set>

#include "base/checked.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "checkpoint/finite_scan.h"
#include "checkpoint/model_store.h"
#include "checkpoint/model_store_format.h"
#include "checkpoint/sidecar.h"

namespace adze {
namespace {

using Sink = std::function<void(std::uint64_t offset, std::span<const std::byte>)>;

/// Reads a tensor in pieces, scans and hashes them, and hands them to `sink`.
std::string digest(const TensorSource& source, const TensorInfo& tensor, const Sink& sink) {
  std::vector<std::byte> piece(std::min(store::kPieceBytes, tensor.bytes));
  Hasher hasher;
  for (std::uint64_t offset = 0; offset < tensor.bytes; offset += piece.size()) {
    const std::span part = std::span(piece).first(std::min<std::uint64_t>(piece.size(), tensor.bytes - offset));
    source.read(tensor, offset, part);
    if (const auto at = find_non_finite(tensor.dtype, part))
      fail(ErrorKind::bad_data, "{}: tensor '{}': NaN or infinity at element {}", source.origin(), tensor.name,
           offset / bytes_of(tensor.dtype) + *at);
    hasher.add(part);
    if (sink) sink(offset, part);
  }
  return hasher.hex();
}

/// The referenced files, in order of first use, and every tensor's place in them.
struct References {
  std::vector<std::filesystem::path> files;
  std::vector<StoreSourceFile> recorded;
  std::vector<std::uint64_t> file;    ///< per tensor
  std::vector<std::uint64_t> offset;  ///< per tensor
};

/// The store's folder is resolved, not the store: a link of its name is replaced, not followed.
std::string relative_to(const std::filesystem::path& store, const std::filesystem::path& file) {
  const std::filesystem::path parent = store.parent_path();
  return real_path(file).lexically_relative(real_path(parent.empty() ? "." : parent)).string();
}

References collect_references(const std::filesystem::path& store, const TensorSource& source) {
  References references;
  std::map<std::filesystem::path, std::size_t> known;
  for (const TensorInfo& tensor : source.tensors()) {
    const auto place = source.place(tensor);
    if (!place)
      fail(ErrorKind::usage, "{}: tensor '{}' lies in no plain file, so that it must be copied into the store",
           source.origin(), tensor.name);
    const auto [at, is_new] = known.emplace(place->file, references.files.size());
    if (is_new) {
      const InputFile file(place->file);
      references.files.push_back(place->file);
      references.recorded.push_back({relative_to(store, place->file), file.size(), file.modified_ns()});
    }
    references.file.push_back(at->second);
    references.offset.push_back(place->offset);
  }
  return references;
}

void check_unchanged(const References& references) {
  for (std::size_t i = 0; i < references.files.size(); ++i) {
    const InputFile file(references.files[i]);
    if (file.size() != references.recorded[i].bytes || file.modified_ns() != references.recorded[i].modified_ns)
      fail(ErrorKind::bad_data, "{}: changed while it was imported; import again", file.path().string());
  }
}

/// Hashes of all tensors. Tensors are taken in groups of bounded size, so that progress is told from this thread.
std::vector<std::string> hash_tensors(const TensorSource& source, Progress& progress) {
  constexpr std::uint64_t kGroupBytes = std::uint64_t{512} << 20;
  const auto tensors = source.tensors();
  std::vector<std::string> hashes(tensors.size());
  std::uint64_t done = 0;
  for (std::size_t first = 0, last = 0; first < tensors.size(); first = last) {
    std::uint64_t bytes = 0;
    while (last < tensors.size() && (last == first || bytes < kGroupBytes)) bytes += tensors[last++].bytes;
    parallel_for(last - first, [&](std::size_t i) { hashes[first + i] = digest(source, tensors[first + i], {}); });
    progress.update(done += bytes);
  }
  return hashes;
}

std::vector<std::string> copy_tensors(const TensorSource& source, Hdf5Writer& writer, Progress& progress) {
  const auto tensors = source.tensors();
  std::vector<std::string> hashes;
  std::uint64_t done = 0;
  writer.make_group("data");
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::string path = fmt::format("data/{}", i);
    writer.create<std::byte>(path, tensors[i].bytes);
    hashes.push_back(digest(source, tensors[i], [&](std::uint64_t offset, std::span<const std::byte> part) {
      writer.write_part<std::byte>(path, offset, part);
      progress.update(done += part.size());
    }));
  }
  return hashes;
}

/// The canonical name of every tensor. Throws bad_data unless they are unique and all given names exist.
std::vector<std::string> canonical_names(const TensorSource& source, const ModelStoreContents& contents) {
  for (const auto& [name, canonical] : contents.canonical)
    if (source.find(name) == nullptr)
      fail(ErrorKind::bad_data, "{}: tensor '{}' (canonical '{}') is missing", source.origin(), name, canonical);
  std::vector<std::string> names;
  std::set<std::string_view> seen;
  for (const TensorInfo& tensor : source.tensors()) {
    const auto at = contents.canonical.find(tensor.name);
    names.push_back(at == contents.canonical.end() ? tensor.name : at->second);
  }
  for (const std::string& name : names)
    if (!seen.insert(name).second)
      fail(ErrorKind::bad_data, "{}: two tensors have the canonical name '{}'", source.origin(), name);
  return names;
}

template <typename T, typename Get>
std::vector<T> column(const auto& rows, const Get& get) {
  std::vector<T> values;
  for (const auto& row : rows) values.push_back(get(row));
  return values;
}

void write_files(Hdf5Writer& writer, std::span<const StoreFile> files) {
  writer.make_group("files");
  for (const StoreFile& file : files) {
    if (!is_bare_name(file.name)) fail(ErrorKind::internal, "'{}' cannot be the name of a kept file", file.name);
    writer.write_bytes("files/" + file.name, file.text);
  }
}

void write_sources(Hdf5Writer& writer, std::span<const StoreSourceFile> sources) {
  writer.make_group("sources");
  writer.write_texts("sources/path", column<std::string>(sources, [](const auto& file) { return file.path; }));
  writer.write<std::uint64_t>("sources/bytes", column<std::uint64_t>(sources, [](const auto& f) { return f.bytes; }));
  writer.write<std::uint64_t>("sources/modified_ns", column<std::uint64_t>(sources, [](const auto& file) {
                                return std::bit_cast<std::uint64_t>(file.modified_ns);
                              }));
}

void write_tensors(Hdf5Writer& writer, std::span<const TensorInfo> tensors, std::span<const std::string> canonical,
                   std::span<const std::string> hashes, const References& references) {
  std::vector<std::uint64_t> dims;
  for (const TensorInfo& tensor : tensors) dims.insert(dims.end(), tensor.shape.begin(), tensor.shape.end());
  writer.make_group("tensors");
  writer.write_texts("tensors/name", column<std::string>(tensors, [](const auto& tensor) { return tensor.name; }));
  writer.write_texts("tensors/canonical", canonical);
  writer.write_texts("tensors/dtype", column<std::string>(tensors, [](const auto& tensor) {
                       return std::string(name_of(tensor.dtype));
                     }));
  writer.write_texts("tensors/hash", hashes);
  writer.write<std::uint64_t>("tensors/rank",
                              column<std::uint64_t>(tensors, [](const auto& t) { return t.shape.size(); }));
  writer.write<std::uint64_t>("tensors/dims", dims);
  writer.write<std::uint64_t>("tensors/bytes", column<std::uint64_t>(tensors, [](const auto& t) { return t.bytes; }));
  writer.write<std::uint64_t>("tensors/file", references.file);
  writer.write<std::uint64_t>("tensors/offset", references.offset);
}

void check_limits(const TensorSource& source) {
  if (source.tensors().size() > store::kMaxTensors)
    fail(ErrorKind::bad_data, "{}: {} tensors are above the limit of {}", source.origin(), source.tensors().size(),
         store::kMaxTensors);
  for (const TensorInfo& tensor : source.tensors())
    if (tensor.shape.size() > store::kMaxRank)
      fail(ErrorKind::bad_data, "{}: tensor '{}' has {} dimensions, above the limit of {}", source.origin(),
           tensor.name, tensor.shape.size(), store::kMaxRank);
}

}  // namespace

void write_model_store(const std::filesystem::path& path, const ModelStoreContents& contents,
                       const TensorSource& source, bool copy, Progress& progress) {
  const auto tensors = source.tensors();
  check_limits(source);
  const auto canonical = canonical_names(source, contents);
  References references;
  if (copy)
    references.file = references.offset = std::vector<std::uint64_t>(tensors.size());
  else
    references = collect_references(path, source);

  std::uint64_t total = 0;
  for (const TensorInfo& tensor : tensors) total = checked_add(total, tensor.bytes);
  progress.start(copy ? "copying tensors" : "hashing tensors", total);
  Hdf5Writer writer(path);
  const auto hashes = copy ? copy_tensors(source, writer, progress) : hash_tensors(source, progress);
  check_unchanged(references);

  writer.set_attribute("/", "format", std::string(store::kFormat));
  writer.set_attribute("/", "version", store::kVersion);
  writer.set_attribute("/", "made_by", std::string("adze " ADZE_VERSION));
  writer.set_attribute("/", "copied", std::uint64_t{copy});
  write_files(writer, contents.files);
  write_sources(writer, references.recorded);
  write_tensors(writer, tensors, canonical, hashes, references);
  writer.commit();
  write_sidecar(path);
}

}  // namespace adze
