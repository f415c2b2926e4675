// The check at the end of an export: what was written, read by code that shares none with what wrote it, has every
// value of the model.
//
// What the model held is noted while it is written, as format and hash of each tensor, so that it need not be read
// again: a tensor that was read back in the noted format with the noted bytes has the noted values. Any other is
// compared value by value with the model's, which is loaded for that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "export/exporter.h"
#include "export/tensor_walk.h"

namespace adze {

/// std::ranges::equal compares bytes one by one.
bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b);

/// Formats and hashes of a model's tensors, as the exporter got them; never of what it made of them.
class MeantTensors {
 public:
  explicit MeantTensors(std::size_t tensors) : notes_(tensors) {}

  /// Once a tensor; later calls for it do nothing. tensor: its place in the plan; of a vector the format is "f32".
  void note(std::size_t tensor, const std::string& format, std::span<const std::byte> payload);
  void note(std::size_t tensor, const TensorValues& values);

  /// hash_hex() of what was noted.
  const std::string& hash(std::size_t tensor) const { return notes_[tensor].value().hash; }

  /// True where it was noted and is the same. False says nothing.
  bool is(std::size_t tensor, const std::string& format, std::span<const std::byte> payload) const;
  bool is(std::size_t tensor, const TensorValues& values) const;

 private:
  struct Note {
    std::string format;
    std::string hash;
  };

  std::vector<std::optional<Note>> notes_;
};

/// What a format has of norms: their weights, or what they multiply by (FamilyInfo::norm_offset), in which small
/// weights are rounded.
enum class StoredNorms : std::uint8_t { weights, gains };

/// `as_stored`: a matrix of the model as the format says it. meant: noted while it was written. Throws internal, naming
/// `origin`, tensor and the first value that differs.
void compare_models(const ExportPlan& plan, const ModelWeights& written, const ModelWeights& model,
                    const std::function<TensorPtr(const TensorPtr&)>& as_stored, const MeantTensors& meant,
                    const std::string& origin, Progress& progress, StoredNorms norms = StoredNorms::weights);

}  // namespace adze
