// The head of a pack, adze's own file format of one model (docs/pack-format.md): a fixed header, then framed protobuf
// records (pack.proto) that say what the model is and where its files and tensors lie in the data part behind them.
//
// Parsing refuses what would leave the file, overlap, leave gaps, come twice or not fit its format; nothing is
// allocated on a number's word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "model/architecture.h"
#include "model/tensors.h"

namespace adze {

inline constexpr std::string_view kPackMagic{
    "\x89"
    "ADZEPK\n",
    8};
inline constexpr std::uint64_t kPackAlignment = 64;

/// A run of bytes in the data part.
struct PackRegion {
  std::uint64_t offset = 0;  ///< from the start of the data part
  std::uint64_t bytes = 0;
  std::string hash;                   ///< hash_hex of the bytes
  std::vector<std::uint64_t> checks;  ///< hash64 of each piece
};

/// How a payload lies in its region; the numbers are those of pack.proto.
enum class PackEncoding {
  raw,
  rans,   ///< coded without loss (grid/coded/coded_payload.h)
  delta,  ///< of a delta: as it is, to be added to the base's tensor
  same,   ///< of a delta: no bytes, the base's tensor as it is
};

/// The format of a tensor that is the base's as it is.
inline constexpr std::string_view kSameFormat = "base";

/// The model that a delta is the difference from.
struct PackBase {
  std::string name;  ///< for people
  std::string hash;  ///< hash_of_base()
};

struct PackTensor {
  std::string name;  ///< TensorSpec::hf_name
  std::string module;
  TensorRole role = TensorRole::linear;
  std::vector<std::uint64_t> shape;  ///< [out, in], or [n]
  std::string format;                ///< CompressedTensor::format(); "f32" for vectors
  PackRegion region;
  PackEncoding encoding = PackEncoding::raw;
  std::string base_hash = {};  ///< of a delta: tensor_hash() of the base's tensor of that name

  /// True when its values are made with the base's.
  bool needs_base() const { return encoding == PackEncoding::delta || encoding == PackEncoding::same; }
  /// Of its payload as a matrix; a vector is one row.
  Shape matrix_shape() const;
  /// Of its payload, which format and shape say.
  std::uint64_t payload_bytes() const;
  /// What it is, for people: "f32", "base", "base + signs per row", "base + dropped 90% seed 7".
  std::string in_words() const;
};

struct PackedFile {
  std::string name;
  PackRegion region;
};

struct PackManifest {
  std::string name;  ///< of the model, for people
  Architecture architecture;
  std::vector<std::pair<std::string, std::string>> provenance;
  std::uint64_t piece_bytes = std::uint64_t{1} << 20;
  std::optional<PackBase> base = {};  ///< a delta's
  std::vector<PackedFile> files;      ///< their regions come first
  std::vector<PackTensor> tensors;    ///< then these, in this order
  std::uint64_t data_start = 0;       ///< in the file
  std::uint64_t file_bytes = 0;

  /// Bits that matrices take in the file, per weight of the model.
  double bits_per_weight() const;
};

/// What stands for all of a base: the hash of its tensors' hashes.
std::string hash_of_base(const std::vector<PackTensor>& tensors);

/// Gives every region its place and as many checks as it has pieces (zero for now, hashes too), and sets data_start and
/// file_bytes. Regions have their bytes.
void place_regions(PackManifest& manifest);

/// What a tensor adds to a pack: its record, and its region with padding. offset: of the region, whose digits take
/// room.
std::uint64_t bytes_in_pack(PackTensor tensor, std::uint64_t offset, std::uint64_t piece_bytes);

/// Header, records and padding up to data_start. Its length depends on neither hashes nor checks.
std::string pack_head(const PackManifest& manifest);

/// The head of a file. Throws bad_data, naming the record and its place.
PackManifest parse_pack_head(const InputFile& file);

/// True for a regular file that begins as packs do.
bool is_pack(const std::filesystem::path& path);

}  // namespace adze
