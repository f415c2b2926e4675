// A model of packed matrices seen as a checkpoint of floats, under the same names: what lies there as floats is read as
// it is, other matrices are decoded to f32, which holds every value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "model/weights.h"

namespace adze {

class DecodedSource : public TensorSource {
 public:
  std::span<const TensorInfo> tensors() const final { return tensors_; }
  /// Of a matrix that is decoded, the rows that it touches.
  void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const final;

 protected:
  /// stored: the dtype of floats; nothing: f32, decoded.
  void add(const std::string& name, std::optional<DType> stored, const std::vector<std::uint64_t>& shape);
  /// After the last one.
  void sort();

 private:
  /// Reads what lies there as floats; false: it has to be loaded.
  virtual bool read_stored(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const = 0;
  virtual TensorPtr load(const TensorInfo& tensor) const = 0;

  TensorPtr loaded(const TensorInfo& tensor) const;

  std::vector<TensorInfo> tensors_;
  mutable std::mutex mutex_;
  mutable std::string last_name_;  ///< a matrix is read in pieces: the last one stays
  mutable TensorPtr last_;
};

}  // namespace adze
