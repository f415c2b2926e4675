// A folder with a model.onnx that adze wrote, as a model: its weights are found through the nodes that multiply by them
// and become tensors on the integer grid that has the same values, or floats. What the graph computes must agree with
// config.json (model/onnx/decoder_check.h). A head that uses the embedding table must use all of it: codes, scales,
// zero points and sizes.
//
// Refuses graphs whose nodes have other names than adze gives them, and other versions of IR and operators than it
// writes.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "model/onnx/onnx_file.h"
#include "model/weights.h"

namespace adze {

/// True when the folder holds a model.onnx and no safetensors.
bool is_onnx_folder(const std::filesystem::path& folder);

class OnnxWeights final : public ModelWeights {
 public:
  /// Checks settings and how a tied head uses the table; reads no weight but RoPE's tables. Throws missing_input,
  /// bad_data.
  explicit OnnxWeights(const std::filesystem::path& folder);

  const Architecture& architecture() const override { return architecture_; }
  /// The loaders throw bad_data, naming the module.
  TensorPtr embedding() const override;
  TensorPtr positions() const override;
  BlockWeights block(std::size_t index) const override;
  std::vector<float> final_norm() const override;
  std::vector<float> final_norm_bias() const override;
  TensorPtr head() const override;

  const std::string& origin() const { return file_.origin(); }
  const OnnxFile& file() const { return file_; }
  /// A matrix or a vector of the table.
  TensorPtr matrix(const TensorSpec& spec) const;
  std::vector<float> vector(const TensorSpec& spec) const;

 private:
  TensorPtr matrix_in_block(const TensorSpec& spec) const override { return matrix(spec); }
  std::vector<float> vector_in_block(const TensorSpec& spec) const override { return vector(spec); }
  TensorPtr product(const std::string& module, Shape shape) const;
  std::vector<float> floats(const std::string& name, std::size_t size) const;
  std::vector<float> norm(const std::string& name, std::size_t size) const;

  OnnxFile file_;
  Architecture architecture_;
};

/// Such a folder seen as a checkpoint of floats: integers as f32, which holds every value, floats as they are.
class OnnxSource final : public TensorSource {
 public:
  explicit OnnxSource(std::shared_ptr<const OnnxWeights> weights);

  std::span<const TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return weights_->origin(); }
  void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override;

 private:
  std::shared_ptr<const OnnxWeights> weights_;
  std::vector<TensorInfo> tensors_;
  std::vector<TensorSpec> specs_;  ///< parallel to tensors_
  mutable std::mutex mutex_;
  mutable std::string last_name_;
  mutable std::vector<std::byte> last_;  ///< the tensor that was read last, which is read in pieces
};

}  // namespace adze
