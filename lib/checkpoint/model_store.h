// The model store: what adze-import makes of a checkpoint. One HDF5 file with the checkpoint's text files, verbatim,
// and a table of its tensors with their content hashes. The data stays in the checkpoint's files (by reference, the
// default) or is copied into the store.
//
// Life-cycle: write_model_store() hashes and scans every tensor once. ModelStore::open() checks the store's checksum
// and that the referenced files have the recorded size and time; the hash of a tensor is checked when it is first read.
// Refuses tensors with NaN or infinity, and anything that does not match what was recorded.
//
// Names seen through TensorSource are the source's; canonical names (model/) are kept beside them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/progress.h"
#include "checkpoint/folder_files.h"
#include "checkpoint/hdf5.h"
#include "checkpoint/tensor_source.h"

namespace adze {

/// What goes into a store beside the tensors.
struct ModelStoreContents {
  std::vector<StoreFile> files;                  ///< names unique and bare
  std::map<std::string, std::string> canonical;  ///< source name -> canonical name; a name not in it stands for itself
};

/// Writes the store and its sidecar; an existing one is replaced. Every tensor of `source` is read once, in pieces.
/// copy: put the data into the store; otherwise every tensor must lie in a plain file.
/// Throws bad_data for a NaN or infinity (tensor and element named), canonical names that are unknown or not unique, or
/// a source file that changes meanwhile.
void write_model_store(const std::filesystem::path& path, const ModelStoreContents& contents,
                       const TensorSource& source, bool copy, Progress& progress = silent_progress());

struct ModelStoreOptions {
  /// Folder in which the source files lie now, if they moved. Their times are not compared then (a copy has new ones);
  /// sizes and content hashes are.
  std::optional<std::filesystem::path> source;
  /// Open the store although its sidecar is missing or does not match. Tensor hashes are checked all the same.
  bool trust = false;
};

/// A file that the store refers to. path: relative to the store's folder.
struct StoreSourceFile {
  std::string path;
  std::uint64_t bytes = 0;
  std::int64_t modified_ns = 0;
};

class ModelStore final : public TensorSource {
 public:
  /// Throws missing_input when the store or a source file is missing, bad_data when anything does not match.
  static std::unique_ptr<ModelStore> open(const std::filesystem::path& path, const ModelStoreOptions& options = {});
  ~ModelStore() override;

  std::span<const TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return reader_.path().string(); }
  /// The first read of a tensor checks its content hash (and reads all of it for that).
  void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override;
  std::optional<FilePlace> place(const TensorInfo& tensor) const override;

  bool is_copy() const { return copy_; }
  std::span<const StoreFile> files() const { return files_; }
  /// The text of a kept file; nullptr when the checkpoint had none of that name.
  const std::string* file(std::string_view name) const;
  std::span<const StoreSourceFile> source_files() const { return sources_; }

  const std::string& canonical_name(const TensorInfo& tensor) const { return rows_[index_of(tensor)].canonical; }
  const TensorInfo* find_canonical(std::string_view canonical) const;
  /// XXH3-128 of the tensor's bytes, 32 hexadecimal digits.
  const std::string& content_hash(const TensorInfo& tensor) const { return rows_[index_of(tensor)].hash; }

 private:
  struct Row {
    std::string canonical;
    std::string hash;
    std::size_t file = 0;
    std::uint64_t offset = 0;
  };
  struct Verified;

  explicit ModelStore(const std::filesystem::path& path);
  void load_files();
  void load_sources();
  void load_tensors();
  void check_row(std::size_t index) const;
  void open_sources(const ModelStoreOptions& options);
  void read_unchecked(std::size_t index, std::uint64_t offset, std::span<std::byte> out) const;
  void verify(std::size_t index) const;
  void check_hash(std::size_t index, const std::string& actual) const;

  Hdf5Reader reader_;
  bool copy_ = false;
  std::vector<StoreFile> files_;
  std::vector<StoreSourceFile> sources_;
  std::vector<InputFile> inputs_;  ///< parallel to sources_
  std::vector<TensorInfo> tensors_;
  std::vector<Row> rows_;  ///< parallel to tensors_
  std::map<std::string, std::size_t, std::less<>> canonical_;
  std::unique_ptr<Verified[]> verified_;  ///< parallel to tensors_
};

}  // namespace adze
