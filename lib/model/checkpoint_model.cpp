#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/safetensors_folder.h"
#include "model/unfused_source.h"
#include "model/weights.h"

namespace adze {

Architecture read_architecture(const std::filesystem::path& folder) {
  constexpr std::uint64_t kMostBytes = std::uint64_t{16} << 20;  // published ones have a few KiB
  const std::filesystem::path file = folder / "config.json";
  return parse_architecture(parse_json(read_file(file, kMostBytes), file.string()), file.string());
}

std::unique_ptr<ModelWeights> open_checkpoint_model(const std::filesystem::path& folder) {
  const Architecture architecture = read_architecture(folder);
  return std::make_unique<CheckpointWeights>(architecture,
                                             unfused_source(architecture, open_checkpoint_folder(folder)));
}

}  // namespace adze
