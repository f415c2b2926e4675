// Layouts of packed checkpoints: how a linear is told from what config.json and its tensors say. One file each, one row
// of the table. What is read becomes a tensor on the integer grid that has the same values, so that what a solver
// achieved survives; where no grid has them (groups of scattered columns, MLX's free biases) it becomes floats.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/matrix.h"
#include "model/packed/raw_tensors.h"
#include "model/weights.h"
#include "text/regex.h"

namespace adze {

/// A checkpoint's settings, and linears read by them. Immutable.
class PackedLayout {
 public:
  virtual ~PackedLayout() = default;

  /// The tensors of a packed linear, those that may be missing included; empty when `base`
  /// ("model.layers.0.mlp.up_proj") is not packed but has a weight of floats.
  virtual std::vector<std::string> tensors_of(const RawTensors& raw, const std::string& base) const = 0;
  /// Tensors that only a runtime needs, such as scales of its cache: read by nobody here.
  virtual bool is_for_runtime(std::string_view) const { return false; }
  /// A packed linear. Throws bad_data for tensors that are missing, of another size or hold what cannot be.
  virtual TensorPtr read(const RawTensors& raw, const std::string& base, Shape shape) const = 0;
};

struct PackedLayoutInfo {
  std::string_view name;
  /// Whether config.json is of this kind.
  bool (*matches)(const nlohmann::json& config);
  /// in_order: the same with the keys as they stand in the file, where the first that matches counts. Throws bad_data,
  /// naming the key, for settings that are wrong or not supported.
  std::unique_ptr<PackedLayout> (*make)(const nlohmann::json& config, const nlohmann::ordered_json& in_order,
                                        const std::string& origin);
};

std::unique_ptr<PackedLayout> make_gptq_layout(const nlohmann::json& config, const nlohmann::ordered_json& in_order,
                                               const std::string& origin);
std::unique_ptr<PackedLayout> make_awq_layout(const nlohmann::json& config, const nlohmann::ordered_json& in_order,
                                              const std::string& origin);
std::unique_ptr<PackedLayout> make_compressed_tensors_layout(const nlohmann::json& config,
                                                             const nlohmann::ordered_json& in_order,
                                                             const std::string& origin);
std::unique_ptr<PackedLayout> make_mlx_layout(const nlohmann::json& config, const nlohmann::ordered_json& in_order,
                                              const std::string& origin);

/// A regular expression of a configuration that names modules: it matches at the start of a name.
class NamePattern {
 public:
  /// place: of the pattern, for the message. Throws bad_data for one that is malformed.
  NamePattern(const std::string& pattern, const std::string& place);
  bool matches(const std::string& name) const;

 private:
  Regex regex_;
};

/// Sizes that layouts share. Throws bad_data for bits that no grid has and for groups that do not divide `cols`.
struct PackedSizes {
  int bits = 4;
  std::size_t group = 0;  ///< columns; 0: a scale for each row
  bool symmetric = true;

  std::size_t group_cols(std::size_t cols) const { return group == 0 ? cols : group; }
  void check(Shape shape) const;
};
/// group_size: -1 (or null) for a scale a row.
std::size_t group_of(const nlohmann::json& settings, const char* key, const std::string& origin);

}  // namespace adze
