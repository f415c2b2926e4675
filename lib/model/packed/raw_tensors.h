// The tensors of a folder's safetensors files, whatever their types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/matrix.h"
#include "checkpoint/safetensors_folder.h"
#include "grid/compressed_tensor.h"

namespace adze {

class RawTensors {
 public:
  /// Throws as open_safetensors_files().
  explicit RawTensors(const std::filesystem::path& folder);

  const std::string& origin() const { return origin_; }
  /// nullptr when there is none.
  const SafetensorsTensor* find(std::string_view name) const;
  std::vector<std::string> names() const;
  std::vector<std::filesystem::path> files() const;

  /// All bytes of a tensor. Throws bad_data, naming it and what was expected, when it is missing or has another type or
  /// shape.
  std::vector<std::byte> read(const std::string& name, SafetensorsType type,
                              const std::vector<std::uint64_t>& shape) const;
  /// The same of one whose type is one of floats; says which.
  struct Floats {
    DType dtype;
    std::vector<std::byte> bytes;
  };
  Floats read_floats(const std::string& name, const std::vector<std::uint64_t>& shape) const;
  std::shared_ptr<const DenseTensor> read_matrix(const std::string& name, Shape shape) const;
  /// Bytes of a tensor from `offset` on. Throws bad_data when it is missing or the range leaves it.
  void read_range(const std::string& name, std::uint64_t offset, std::span<std::byte> out) const;
  /// Throws bad_data when it is missing.
  const SafetensorsTensor& require(const std::string& name) const;
  /// As read() does, before anything is read.
  const SafetensorsTensor& require(const std::string& name, SafetensorsType type,
                                   const std::vector<std::uint64_t>& shape) const;
  /// Rows of a matrix of that type and shape, in pieces: adze::read_rows().
  void read_rows(const std::string& name, SafetensorsType type, Shape shape, std::size_t multiple,
                 const std::function<void(std::size_t first, std::span<const std::byte> bytes)>& body) const;

 private:
  struct Place {
    const InputFile& file;
    std::uint64_t begin, bytes;
  };
  Place place_of(const std::string& name) const;
  DType require_floats(const std::string& name, const std::vector<std::uint64_t>& shape) const;
  std::vector<std::byte> read_all(const std::string& name) const;

  std::string origin_;
  std::vector<SafetensorsFile> files_;
};

}  // namespace adze
