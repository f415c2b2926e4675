// Says what a file or folder is, what it holds and, on request, whether it is whole: safetensors files, Hugging Face
// folders, model stores, outputs of adze-compress (finished or not), statistics, GGUF files, packs. Which it is, the content
// tells: magic numbers of files, the files in a folder.
//
// Looking changes nothing and needs no supported architecture: what the rest of adze would refuse is described, with
// the reason. The result is a value; text and JSON are made of it in one place each.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/progress.h"
#include "calibrate/statistics_store.h"

namespace adze {

struct InspectOptions {
  bool verify = false;  ///< read everything: checksums, content hashes, finite values
};

struct InspectProperty {
  std::string name;  ///< as in JSON: "head_dim"
  std::variant<std::string, std::uint64_t, double, bool, std::vector<std::string>> value;
};

/// A key of a GGUF file; long values are cut.
struct InspectKey {
  std::string key;
  std::string type;
  std::string value;
};

/// shape: slowest dimension first.
struct InspectTensor {
  std::string name;
  std::string type;
  std::vector<std::uint64_t> shape;
  std::uint64_t bytes = 0;
};

/// All tensors of one type together.
struct InspectFormat {
  std::string type;
  std::uint64_t tensors = 0;
  std::uint64_t weights = 0;
  std::uint64_t bytes = 0;

  double bits_per_weight() const {
    return weights == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
  }
};

struct Inspection {
  std::filesystem::path path;
  std::string kind;
  std::vector<InspectProperty> properties;
  std::vector<InspectKey> metadata;
  std::vector<InspectTensor> tensors;
  std::vector<InputSummary> statistics;
  bool verified = false;
  std::vector<std::string> damage;  ///< what verification found; empty: nothing

  /// By type, sorted by name.
  std::vector<InspectFormat> formats() const;
};

/// Throws missing_input when there is nothing at `path`, bad_data when it is of no known kind or too broken to
/// describe.
Inspection inspect(const std::filesystem::path& path, const InspectOptions& options, Progress& progress);

/// with_tensors: list every tensor. Control characters of foreign names are shown as escapes.
std::string inspection_text(const Inspection& inspection, bool with_tensors);
std::string inspection_json(const Inspection& inspection, bool with_tensors);

/// A message with foreign names or values in it: control characters as escapes, ends of lines as they are.
std::string printable_lines(std::string_view message);

}  // namespace adze
