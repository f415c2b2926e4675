// The model store's own checks. The HDF5 library is not a sandbox and may misbehave on corrupt bytes, which is why a
// store is opened only when its checksum matches; so this target never shows it corrupt bytes. Instead
//   1. the input, as a file beside the sidecar of another one, must be refused before HDF5 sees it (so are its cut
//   copies);
//   2. the input fills the columns of a well-formed file with a matching sidecar, which must open or be an Error.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/hdf5.h"
#include "checkpoint/model_store.h"
#include "checkpoint/model_store_format.h"
#include "checkpoint/sidecar.h"

namespace {

/// A folder of this process with the file "f" of 64 bytes in it, removed at exit.
class Workplace {
 public:
  Workplace() {
    std::error_code ignored;
    const std::filesystem::path memory = "/dev/shm";  // syncing every store to a disk would take most of the time
    const bool in_memory = std::filesystem::is_directory(memory, ignored);
    std::string pattern = ((in_memory ? memory : std::filesystem::temp_directory_path()) / "adze-fuzz-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    folder_ = pattern;
    adze::write_file(folder_ / "f", std::string(64, 'x'));
  }
  ~Workplace() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;
  const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
};

/// Takes columns from the input: a line of text is a column, its cells separated by blanks.
class Columns {
 public:
  explicit Columns(std::string_view input) : rest_(input) {}

  std::vector<std::string> texts() {
    const std::string_view line = next(rest_, '\n');
    std::vector<std::string> cells;
    for (std::string_view left = line; !left.empty() && cells.size() < 64;) {
      std::string cell(next(left, ' '));
      std::erase(cell, '\0');
      cells.push_back(std::move(cell));
    }
    return cells;
  }
  std::vector<std::uint64_t> numbers() {
    std::vector<std::uint64_t> values;
    for (const std::string& cell : texts()) values.push_back(std::strtoull(cell.c_str(), nullptr, 0));
    return values;
  }

 private:
  static std::string_view next(std::string_view& from, char separator) {
    const std::size_t end = std::min(from.find(separator), from.size());
    const std::string_view part = from.substr(0, end);
    from.remove_prefix(std::min(end + 1, from.size()));
    return part;
  }
  std::string_view rest_;
};

void write_table(const std::filesystem::path& path, std::string_view input) {
  Columns columns(input);
  adze::Hdf5Writer writer(path);
  writer.set_attribute("/", "format", std::string(adze::store::kFormat));
  writer.set_attribute("/", "version", adze::store::kVersion);
  writer.set_attribute("/", "copied", std::uint64_t{0});
  for (const char* const group : {"files", "sources", "tensors"}) writer.make_group(group);
  writer.write_texts("sources/path", columns.texts());
  writer.write<std::uint64_t>("sources/bytes", columns.numbers());
  writer.write<std::uint64_t>("sources/modified_ns", columns.numbers());
  for (const char* const name : {"name", "canonical", "dtype", "hash"})
    writer.write_texts(std::string("tensors/") + name, columns.texts());
  for (const char* const name : {"rank", "dims", "bytes", "file", "offset"})
    writer.write<std::uint64_t>(std::string("tensors/") + name, columns.numbers());
  writer.commit();
  adze::write_sidecar(path);
}

void refuse_under_another_sidecar(const std::filesystem::path& path, std::string_view input) {
  adze::write_file(path, input);
  adze::write_file(adze::sidecar_path(path), std::string(32, '0') + "  store.h5\n");
  try {
    adze::ModelStore::open(path);
  } catch (const adze::Error&) {
    return;
  }
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Workplace workplace;
  const std::filesystem::path path = workplace.folder() / "store.h5";
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  refuse_under_another_sidecar(path, input);
  try {
    write_table(path, input);
    const auto store = adze::ModelStore::open(path, {workplace.folder(), false});
    for (const adze::TensorInfo& tensor : store->tensors()) {
      std::vector<std::byte> content(tensor.bytes);
      try {
        store->read(tensor, 0, content);
      } catch (const adze::Error&) {
      }
    }
  } catch (const adze::Error&) {
  }
  return 0;
}
