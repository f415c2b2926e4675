#include "checkpoint/model_store.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <utility>

#include "base/checked.h"
#include "base/hash.h"
#include "checkpoint/model_store_format.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/sidecar.h"

namespace adze {
namespace {

constexpr std::size_t kHashDigits = 32;

bool is_hash(std::string_view text) {
  return text.size() == kHashDigits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

template <typename T>
void check_rows(const std::vector<T>& column, std::size_t expected, std::string_view name) {
  if (column.size() != expected)
    fail(ErrorKind::bad_data, "column '{}' has {} rows instead of {}", name, column.size(), expected);
}

/// A number column of /tensors or /sources with `rows` rows.
std::vector<std::uint64_t> numbers(const Hdf5Reader& reader, const std::string& path, std::size_t rows) {
  auto column = reader.read<std::uint64_t>(path, store::kMaxTensors);
  check_rows(column, rows, path);
  return column;
}

std::vector<std::string> texts(const Hdf5Reader& reader, const std::string& path, std::size_t rows,
                               std::uint64_t max_length) {
  auto column = reader.read_texts(path, store::kMaxTensors, max_length);
  check_rows(column, rows, path);
  return column;
}

DType read_dtype(const std::string& name) {
  const auto dtype = dtype_from_name(name);
  if (!dtype) fail(ErrorKind::bad_data, "unknown dtype '{}'", name);
  return *dtype;
}

}  // namespace

/// Whether a tensor's hash has been checked; the mutex keeps two first reads from doing it twice.
struct ModelStore::Verified {
  std::atomic<bool> done = false;
  std::mutex mutex;
};

ModelStore::ModelStore(const std::filesystem::path& path) : reader_(path) {}
ModelStore::~ModelStore() = default;

std::unique_ptr<ModelStore> ModelStore::open(const std::filesystem::path& path, const ModelStoreOptions& options) {
  if (!options.trust) {
    try {
      check_sidecar(path);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_data) throw;
      throw Error(error.kind(), error.message() + ", or open it with --trust");
    }
  }
  std::unique_ptr<ModelStore> store(new ModelStore(path));
  with_context(path.string(), [&] {
    const Hdf5Reader& reader = store->reader_;
    if (!reader.has_attribute("/", "format") || reader.text("/", "format") != store::kFormat)
      fail(ErrorKind::bad_data, "not a model store");
    if (const std::uint64_t version = reader.number("/", "version"); version != store::kVersion)
      fail(ErrorKind::bad_data, "model store version {}, this program reads {}; import the checkpoint again", version,
           store::kVersion);
    store->copy_ = reader.number("/", "copied") != 0;
    store->load_files();
    store->load_sources();
    store->load_tensors();
  });
  store->open_sources(options);
  return store;
}

void ModelStore::load_files() {
  for (const std::string& name : reader_.names("files"))
    files_.push_back({name, reader_.read_bytes("files/" + name, kMaxStoreFileBytes)});
}

void ModelStore::load_sources() {
  const auto paths = reader_.read_texts("sources/path", store::kMaxSources, store::kMaxPathBytes);
  const auto bytes = numbers(reader_, "sources/bytes", paths.size());
  const auto times = numbers(reader_, "sources/modified_ns", paths.size());
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (paths[i].empty() || std::filesystem::path(paths[i]).is_absolute())
      fail(ErrorKind::bad_data, "source file '{}' is not a path relative to the store", paths[i]);
    sources_.push_back({paths[i], bytes[i], std::bit_cast<std::int64_t>(times[i])});
  }
}

void ModelStore::load_tensors() {
  const auto names = reader_.read_texts("tensors/name", store::kMaxTensors, kMaxTensorNameBytes);
  const auto canonical = texts(reader_, "tensors/canonical", names.size(), kMaxTensorNameBytes);
  const auto dtypes = texts(reader_, "tensors/dtype", names.size(), kHashDigits);
  const auto hashes = texts(reader_, "tensors/hash", names.size(), kHashDigits);
  const auto ranks = numbers(reader_, "tensors/rank", names.size());
  const auto bytes = numbers(reader_, "tensors/bytes", names.size());
  const auto files = numbers(reader_, "tensors/file", names.size());
  const auto offsets = numbers(reader_, "tensors/offset", names.size());
  const auto dims = reader_.read<std::uint64_t>("tensors/dims", store::kMaxTensors * store::kMaxRank);

  std::size_t used = 0;
  for (std::size_t i = 0; i < names.size(); ++i) {
    with_context(fmt::format("tensor '{}'", names[i]), [&] {
      if (ranks[i] > store::kMaxRank || ranks[i] > dims.size() - used)
        fail(ErrorKind::bad_data, "{} dimensions, {} are left in the table", ranks[i], dims.size() - used);
      const auto first = dims.begin() + static_cast<std::ptrdiff_t>(used);
      used += ranks[i];
      tensors_.push_back(
          {names[i], read_dtype(dtypes[i]), {first, first + static_cast<std::ptrdiff_t>(ranks[i])}, bytes[i]});
      rows_.push_back({canonical[i], hashes[i], files[i], offsets[i]});
      check_row(i);
      if (!canonical_.emplace(canonical[i], i).second)
        fail(ErrorKind::bad_data, "its canonical name '{}' is another tensor's too", canonical[i]);
    });
  }
  if (used != dims.size()) fail(ErrorKind::bad_data, "{} dimensions belong to no tensor", dims.size() - used);
  verified_ = std::make_unique<Verified[]>(tensors_.size());
}

void ModelStore::check_row(std::size_t index) const {
  const TensorInfo& tensor = tensors_[index];
  const Row& row = rows_[index];
  if (tensor.name.empty() || row.canonical.empty()) fail(ErrorKind::bad_data, "an empty name");
  if (index > 0 && tensors_[index - 1].name >= tensor.name)
    fail(ErrorKind::bad_data, "names are not sorted and unique");
  const std::uint64_t expected = checked_mul(checked_product(tensor.shape), bytes_of(tensor.dtype));
  if (tensor.bytes != expected)
    fail(ErrorKind::bad_data, "{} bytes are recorded, shape and dtype need {}", tensor.bytes, expected);
  if (!is_hash(row.hash)) fail(ErrorKind::bad_data, "its content hash is malformed");
  if (copy_) {
    const std::uint64_t stored = reader_.count(fmt::format("data/{}", index));
    if (stored != tensor.bytes) fail(ErrorKind::bad_data, "{} bytes are stored instead of {}", stored, tensor.bytes);
    return;
  }
  if (row.file >= sources_.size())
    fail(ErrorKind::bad_data, "it lies in source file {} of {}", row.file, sources_.size());
  const std::uint64_t size = sources_[row.file].bytes;
  if (row.offset > size || tensor.bytes > size - row.offset)
    fail(ErrorKind::bad_data, "{} bytes at {} do not lie inside its file of {}", tensor.bytes, row.offset, size);
}

void ModelStore::open_sources(const ModelStoreOptions& options) {
  const std::filesystem::path home = real_path(reader_.path()).parent_path();
  for (const StoreSourceFile& source : sources_) {
    const std::filesystem::path recorded = (home / source.path).lexically_normal();
    const std::filesystem::path path = options.source ? *options.source / recorded.filename() : recorded;
    InputFile file = with_context(fmt::format("{}: a file of the checkpoint (give --source DIR if it moved)", origin()),
                                  [&] { return InputFile(path); });
    if (file.size() != source.bytes)
      fail(ErrorKind::bad_data, "{}: {} bytes, {} when it was imported into {}; import it again", path.string(),
           file.size(), source.bytes, origin());
    if (!options.source && file.modified_ns() != source.modified_ns)
      fail(ErrorKind::bad_data,
           "{}: modified at {} ns, {} ns when it was imported into {}; import it again, or give --source {} to go by "
           "content alone",
           path.string(), file.modified_ns(), source.modified_ns, origin(), path.parent_path().string());
    inputs_.push_back(std::move(file));
  }
}

void ModelStore::read_unchecked(std::size_t index, std::uint64_t offset, std::span<std::byte> out) const {
  if (copy_)
    reader_.read_part<std::byte>(fmt::format("data/{}", index), offset, out);
  else
    inputs_[rows_[index].file].read(rows_[index].offset + offset, out);
}

void ModelStore::check_hash(std::size_t index, const std::string& actual) const {
  if (actual != rows_[index].hash)
    fail(ErrorKind::bad_data, "{}: tensor '{}': its content has hash {}, {} when it was imported; import it again",
         origin(), tensors_[index].name, actual, rows_[index].hash);
  verified_[index].done.store(true, std::memory_order_release);
}

/// Hashes the whole tensor in pieces.
void ModelStore::verify(std::size_t index) const {
  const std::uint64_t bytes = tensors_[index].bytes;
  std::vector<std::byte> piece(std::min(store::kPieceBytes, bytes));
  Hasher hasher;
  for (std::uint64_t offset = 0; offset < bytes; offset += piece.size()) {
    const std::span part = std::span(piece).first(std::min<std::uint64_t>(piece.size(), bytes - offset));
    read_unchecked(index, offset, part);
    hasher.add(part);
  }
  check_hash(index, hasher.hex());
}

void ModelStore::read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const {
  const std::size_t index = index_of(tensor);
  check_range(tensor, offset, out.size());
  Verified& verified = verified_[index];
  if (!verified.done.load(std::memory_order_acquire)) {
    const std::lock_guard lock(verified.mutex);
    if (!verified.done.load(std::memory_order_relaxed)) {
      if (out.size() == tensor.bytes) {  // all of it: one pass gives the data and its hash
        read_unchecked(index, 0, out);
        return check_hash(index, hash_hex(out));
      }
      verify(index);
    }
  }
  read_unchecked(index, offset, out);
}

std::optional<FilePlace> ModelStore::place(const TensorInfo& tensor) const {
  const Row& row = rows_[index_of(tensor)];
  if (copy_) return std::nullopt;
  return FilePlace{inputs_[row.file].path(), row.offset};
}

const std::string* ModelStore::file(std::string_view name) const {
  const auto at = std::ranges::find(files_, name, &StoreFile::name);
  return at == files_.end() ? nullptr : &at->text;
}

const TensorInfo* ModelStore::find_canonical(std::string_view canonical) const {
  const auto at = canonical_.find(canonical);
  return at == canonical_.end() ? nullptr : &tensors_[at->second];
}

}  // namespace adze
