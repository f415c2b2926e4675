// Small checkpoints of every family and variant that can be opened, with random weights under the names that Hugging
// Face gives them: what tests of the forward pass and of exports run on where no published checkpoint is at hand.
//
// Their predictions depend on everything: attention is not uniform, blocks change the states about as much as the
// embedding, biases and norms are far from what does nothing, and the distributions are peaked (below 3 nats of the 8.3
// that 4096 tokens have), so that a wrong setting shows in likely tokens. Where there are experts, each of them is
// chosen by some tokens, and those of a token differ in weight.
#pragma once

#include <cstdint>
#include <filesystem>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace adze::testing {

/// config.json of one small model. name: of letters, digits and '_', fit for a test's name.
struct FamilyCase {
  std::string name;
  nlohmann::json config;
};
inline void PrintTo(const FamilyCase& family, std::ostream* out) { *out << family.name; }

std::vector<FamilyCase> family_cases();
/// Those of them that are mixtures of experts.
std::vector<FamilyCase> mixture_cases();
/// Throws out_of_range for a name that there is not.
FamilyCase family_case(std::string_view name);

/// The mean entropy that heads are scaled to, in nats.
inline constexpr double kMeanEntropy = 2.4;

/// Makes `folder`: config.json, model.safetensors (F32) and the demo checkpoint's tokenizer. Equal arguments give equal
/// bytes. Returns the folder.
std::filesystem::path write_random_checkpoint(const std::filesystem::path& folder, const nlohmann::json& config,
                                              std::uint64_t seed);

/// A copy of the checkpoint `from` with another config.json. Returns `to`.
std::filesystem::path copy_checkpoint(const std::filesystem::path& from, const std::filesystem::path& to,
                                      const nlohmann::json& config);

/// The checkpoint `from` as the language model of one of text and images: its config.json as `text_config`, its tensors
/// with a prefix, three small tensors of towers beside them. Names are those of Transformers up to 4.51 or since.
/// Returns `to`.
enum class TowerNames : std::uint8_t { older, newer };
std::filesystem::path wrap_checkpoint(const std::filesystem::path& from, const std::filesystem::path& to,
                                      const std::string& hf_class, TowerNames names);

}  // namespace adze::testing
