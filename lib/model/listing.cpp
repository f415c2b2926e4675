#include "model/listing.h"

#include <algorithm>
#include <array>
#include <map>

#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"

namespace adze {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t kListingVersion = 1;
constexpr std::string_view kWeight = ".weight";

/// Parts of names of tables whose rows are looked up, where "embed" is not in them.
constexpr std::array<std::string_view, 4> kTables = {"wte", "wpe", "shared", "relative_attention_bias"};

std::vector<std::string_view> parts_of(std::string_view name) {
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    parts.push_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

bool is_number(std::string_view part) {
  return !part.empty() && std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; });
}

/// Up to the first number, "encoder.layer.3"; empty where there is none.
std::string_view block_name(std::string_view name) {
  for (const std::string_view part : parts_of(name))
    if (is_number(part)) return name.substr(0, static_cast<std::size_t>(part.end() - name.begin()));
  return "";
}

bool is_table(std::string_view name) {
  return std::ranges::any_of(parts_of(name), [](std::string_view part) {
    return part.find("embed") != std::string_view::npos || std::ranges::find(kTables, part) != kTables.end();
  });
}

bool is_matrix(const ListedTensor& tensor) {
  return tensor.shape.size() == 2 && tensor.shape[0] > 0 && tensor.shape[1] > 0 && is_weight_dtype(tensor.dtype) &&
         tensor.name.ends_with(kWeight) && !is_table(tensor.name);
}

TensorSpec spec_of(const ListedTensor& tensor, std::size_t block, std::size_t place) {
  TensorSpec spec;
  spec.hf_name = spec.module = tensor.name;
  spec.shape = tensor.shape;
  spec.role = TensorRole::kept;
  spec.block = block;
  spec.listed = place;
  spec.dtype = tensor.dtype;
  if (!is_matrix(tensor)) return spec;
  spec.role = TensorRole::linear;
  spec.module.resize(spec.module.size() - kWeight.size());
  return spec;
}

/// Numbers of blocks, in the order in which names have them.
std::map<std::string_view, std::size_t> blocks_of(const Architecture& architecture) {
  std::map<std::string_view, std::size_t> blocks;
  for (const ListedTensor& tensor : architecture.listed) blocks.emplace(block_name(tensor.name), blocks.size());
  return blocks;
}

Architecture listed(std::vector<ListedTensor> tensors) {
  Architecture architecture;
  architecture.family = kNoFamilyName;
  architecture.listed = std::move(tensors);
  architecture.layers = blocks_of(architecture).size();
  return architecture;
}

ListedTensor read_tensor(const nlohmann::json& entry, const std::string& origin) {
  const bool whole = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                     entry.contains("dtype") && entry["dtype"].is_string() && entry.contains("shape") &&
                     entry["shape"].is_array();
  const auto dtype = whole ? dtype_from_name(entry["dtype"].get<std::string>()) : std::nullopt;
  if (!dtype) fail(ErrorKind::bad_data, "{}: the list of tensors is damaged", origin);
  ListedTensor tensor{entry["name"].get<std::string>(), *dtype, {}};
  for (const nlohmann::json& size : entry["shape"]) {
    if (!size.is_number_unsigned()) fail(ErrorKind::bad_data, "{}: the shape of '{}' is damaged", origin, tensor.name);
    tensor.shape.push_back(size.get<std::uint64_t>());
  }
  checked_mul(checked_product(tensor.shape), bytes_of(tensor.dtype));  // throws
  return tensor;
}

/// A linear, and the one whose outputs it reads, by the ends of their modules' names.
struct Fed {
  std::string_view module;
  std::string_view feeder;
};
/// The first whose feeder is there counts.
constexpr std::array kFed{Fed{"down_proj", "up_proj"},
                          Fed{"w2", "w3"},
                          Fed{"w2", "w1"},
                          Fed{"fc2", "fc1"},
                          Fed{"lin2", "lin1"},
                          Fed{"linear2", "linear1"},
                          Fed{"dense_4h_to_h", "dense_h_to_4h"},
                          Fed{"wo", "wi_1"},
                          Fed{"wo", "wi"},
                          Fed{"attention.output.dense", "attention.self.value"},
                          Fed{"attention.output.dense", "attention.attention.value"},
                          Fed{"output.dense", "intermediate.dense"},
                          Fed{"o_proj", "v_proj"},
                          Fed{"out_proj", "v_proj"},
                          Fed{"SelfAttention.o", "SelfAttention.v"}};

/// True for "a.b.c" and "b.c", not for "ab.c".
bool ends_with_parts(std::string_view name, std::string_view end) {
  return name.ends_with(end) && (name.size() == end.size() || name[name.size() - end.size() - 1] == '.');
}

std::optional<std::size_t> feeder_of(const TensorSpec& spec, std::span<const TensorSpec> block) {
  for (const Fed& fed : kFed) {
    if (!ends_with_parts(spec.module, fed.module)) continue;
    const std::string name =
        fmt::format("{}{}", spec.module.substr(0, spec.module.size() - fed.module.size()), fed.feeder);
    const auto at = std::ranges::find(block, name, &TensorSpec::module);
    if (at != block.end() && at->is_matrix() && at->shape[0] == spec.shape[1])
      return static_cast<std::size_t>(at - block.begin());
  }
  return std::nullopt;
}

}  // namespace

Architecture list_tensors(const TensorSource& source) {
  std::vector<ListedTensor> tensors;
  for (const TensorInfo& tensor : source.tensors()) tensors.push_back({tensor.name, tensor.dtype, tensor.shape});
  if (tensors.empty()) fail(ErrorKind::bad_data, "{}: holds no tensor", source.origin());
  return listed(std::move(tensors));
}

std::string listing_text(const Architecture& architecture) {
  Json tensors = Json::array();
  for (const ListedTensor& tensor : architecture.listed)
    tensors.push_back({{"name", tensor.name}, {"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape}});
  return Json{{"adze_tensors", kListingVersion}, {"tensors", std::move(tensors)}}.dump() + "\n";
}

Architecture parse_listing(std::string_view text, const std::string& origin) {
  const nlohmann::json json = parse_json(text, origin);
  if (!json.is_object() || !json.contains("adze_tensors") || json["adze_tensors"] != kListingVersion ||
      !json.contains("tensors") || !json["tensors"].is_array() || json["tensors"].empty())
    fail(ErrorKind::bad_data, "{}: is no list of tensors of this program", origin);
  std::vector<ListedTensor> tensors;
  for (const nlohmann::json& entry : json["tensors"]) {
    tensors.push_back(read_tensor(entry, origin));
    if (tensors.size() > 1 && tensors[tensors.size() - 2].name >= tensors.back().name)
      fail(ErrorKind::bad_data, "{}: names are not sorted and unique", origin);
  }
  return listed(std::move(tensors));
}

std::optional<Architecture> listing_among(std::span<const StoreFile> files, const std::string& origin) {
  const auto at = std::ranges::find(files, kListingFile, &StoreFile::name);
  if (at == files.end()) return std::nullopt;
  return parse_listing(at->text, fmt::format("{}: {}", origin, kListingFile));
}

std::vector<TensorSpec> listed_tensors(const Architecture& architecture) {
  const std::map<std::string_view, std::size_t> blocks = blocks_of(architecture);
  std::vector<std::size_t> places(blocks.size());
  std::vector<TensorSpec> specs;
  for (const ListedTensor& tensor : architecture.listed) {
    const std::size_t block = blocks.at(block_name(tensor.name));
    specs.push_back(spec_of(tensor, block, places[block]++));
  }
  std::ranges::stable_sort(specs, {}, [](const TensorSpec& spec) { return *spec.block; });
  return specs;
}

std::vector<TensorSpec> tensors_of_block(const Architecture& architecture, std::size_t block) {
  std::vector<TensorSpec> specs = listed_tensors(architecture);
  std::erase_if(specs, [&](const TensorSpec& spec) { return *spec.block != block; });
  return specs;
}

std::vector<std::optional<std::size_t>> feeders_of(std::span<const TensorSpec> block) {
  std::vector<std::optional<std::size_t>> feeders;
  for (const TensorSpec& spec : block) feeders.push_back(spec.is_matrix() ? feeder_of(spec, block) : std::nullopt);
  return feeders;
}

void require_known(const Architecture& architecture, const std::string& origin) {
  if (!architecture.is_listed()) return;
  fail(ErrorKind::bad_data,
       "{}: its architecture is not known, so that it cannot be run; its tensors alone can be inspected, compressed "
       "without calibration (adze compress with calibration: none, or adze quantize), and exported as a folder",
       origin);
}

}  // namespace adze
