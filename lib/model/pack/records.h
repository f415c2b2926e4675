// The records of a pack's manifest as protobuf messages (pack.proto), and what they say as values. Internal to
// model/pack.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>

#include "model/pack/manifest.h"

namespace adze {
namespace pack {
class File;
class Model;
class Tensor;
}  // namespace pack

/// Serialized records.
std::string model_record(const PackManifest& manifest);
std::string file_record(const PackedFile& file);
std::string tensor_record(const PackTensor& tensor);

/// Takes records in their order. Throws bad_data for one that fits neither the format nor those before it: unknown
/// kinds, names that come twice, regions that do not lie behind the one before, payloads of another size than their
/// format's.
class PackRecords {
 public:
  void add(std::string_view message);
  /// Where the last region ends in the data part.
  std::uint64_t data_bytes() const { return end_; }
  /// Everything that was said. Throws bad_data without a model record.
  PackManifest take();

 private:
  void add_model(const pack::Model& model);
  void add_file(const pack::File& file);
  void add_tensor(const pack::Tensor& tensor);
  void check_base_of(const PackTensor& tensor) const;

  PackManifest manifest_;
  bool begun_ = false;
  std::uint64_t end_ = 0;
  std::unordered_set<std::string> names_;
};

}  // namespace adze
