// The scales of an 8-bit cache of keys and values that a compressed-tensors folder has for its runtime. The weights do
// not need them, so that loading a model reads none.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

#include "model/architecture.h"
#include "model/packed/raw_tensors.h"

namespace adze {

class StoredCacheScales {
 public:
  /// Throws bad_data unless config.json says a cache of 8-bit floats with one static scale for all, symmetric.
  StoredCacheScales(const std::filesystem::path& folder, const Architecture& architecture);

  std::string key_name(std::size_t block) const { return name(block, "k_scale"); }
  std::string value_name(std::size_t block) const { return name(block, "v_scale"); }
  /// Of the family's checkpoints: "model.layers.3.self_attn.k_scale".
  static std::string name(const Architecture& architecture, std::size_t block, std::string_view scale);
  /// Throws bad_data for a tensor that is missing, not one float, or no positive number.
  float keys(std::size_t block) const { return scale(key_name(block)); }
  float values(std::size_t block) const { return scale(value_name(block)); }

 private:
  std::string name(std::size_t block, std::string_view scale) const { return name(architecture_, block, scale); }
  float scale(const std::string& name) const;

  RawTensors raw_;
  Architecture architecture_;
};

}  // namespace adze
