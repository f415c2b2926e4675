// The tensors of a folder's files, made in the order of a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "export/compare_models.h"
#include "export/folder/folder_format.h"
#include "export/tensor_walk.h"

namespace adze {

/// A stored tensor, and which of the plan's it is a part of; or, beside the projection that fills a cache, the cache's
/// scale.
struct Part {
  SafetensorsSpec spec;
  std::size_t tensor = 0;
  bool is_cache_scale = false;

  std::uint64_t bytes() const { return safetensors_bytes(spec.type, spec.shape); }
};

struct Shard {
  std::string name;
  std::vector<Part> parts;
};

/// Makes parts in the order of a file, which goes by dtype: scales come long after the codes of their matrix. What is
/// small of a matrix is made with what is large of it and kept, as long as all that is kept takes no more than the
/// largest part; for the rest the matrix is loaded again.
class PartMaker {
 public:
  /// floats: as the format's as_stored() takes it.
  PartMaker(const ExportPlan& plan, const FolderFormat& format, DType floats, const ModelWeights& model);

  /// The shard whose parts are taken from now on, in that order.
  void begin(const Shard& shard, std::span<const SafetensorsTensor> order);
  /// All bytes of a part, each once.
  SharedBytes take(const std::string& name);
  /// What the tensors of the parts made so far were in the model, for the comparison.
  const MeantTensors& meant() const { return meant_; }

 private:
  SharedBytes make(const Part& part, bool& is_loaded);
  /// Other parts of the matrix.
  void keep_what_is_small(const Part& now);
  void keep(const Part& part, const Part& now);

  const ExportPlan& plan_;
  const FolderFormat& format_;
  DType floats_;
  const ModelWeights& model_;
  TensorWalk walk_;
  MeantTensors meant_;
  std::map<std::string, const Part*> parts_;
  std::map<std::size_t, std::vector<const Part*>> of_tensor_;
  std::map<std::string, SharedBytes> kept_;
  std::uint64_t room_ = 0;
};

}  // namespace adze
