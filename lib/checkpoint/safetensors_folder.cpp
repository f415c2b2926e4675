#include "checkpoint/safetensors_folder.h"

#include <algorithm>
#include <array>
#include <map>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/json.h"
#include "base/words.h"
#include "checkpoint/folder_files.h"

namespace adze {
namespace {

constexpr std::string_view kSingle = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr std::uint64_t kMaxIndexBytes = kMaxSafetensorsHeaderBytes;  // it lists what the headers list

/// weight_map of the index: tensor name -> bare shard name.
std::map<std::string, std::string> read_weight_map(const std::filesystem::path& folder) {
  const std::filesystem::path path = path_in_folder(folder, kIndex);
  const nlohmann::json index = parse_json(read_file(path, kMaxIndexBytes), path.string(), 8);
  const std::string origin = path.string();
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    fail(ErrorKind::bad_data, "{}: no object 'weight_map'", origin);
  std::map<std::string, std::string> map;
  for (const auto& [name, shard] : index["weight_map"].items()) {
    if (!shard.is_string()) fail(ErrorKind::bad_data, "{}: the shard of tensor '{}' is not a string", origin, name);
    if (!is_bare_name(shard.get_ref<const std::string&>()))
      fail(ErrorKind::bad_data, "{}: tensor '{}': shard '{}' is not a plain file name", origin, name,
           shard.get_ref<const std::string&>());
    map.emplace(name, shard.get<std::string>());
  }
  if (map.empty()) fail(ErrorKind::bad_data, "{}: 'weight_map' is empty", origin);
  return map;
}

std::vector<std::string> shard_names(const std::map<std::string, std::string>& weight_map) {
  std::vector<std::string> names;
  for (const auto& [tensor, shard] : weight_map) names.push_back(shard);
  std::ranges::sort(names);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

/// Every tensor of the shard must be mapped to it.
void check_shard(const SafetensorsFile& file, const std::string& shard,
                 const std::map<std::string, std::string>& weight_map) {
  for (const SafetensorsTensor& tensor : file.tensors()) {
    const auto at = weight_map.find(tensor.name);
    if (at == weight_map.end())
      fail(ErrorKind::bad_data, "{}: tensor '{}' is not in the index's weight_map", file.file().path().string(),
           tensor.name);
    if (at->second != shard)
      fail(
          ErrorKind::bad_data,
          "{}: tensor '{}' is in this file, but the index puts it into '{}': it is in two shards or the index is wrong",
          file.file().path().string(), tensor.name, at->second);
  }
}

DType readable_dtype(const SafetensorsTensor& tensor, const SafetensorsFile& file) {
  const auto dtype = dtype_of(tensor.type);
  if (!dtype)
    fail(ErrorKind::bad_data,
         "{}: tensor '{}' has dtype {}, which cannot be read as weights; give the checkpoint in "
         "BF16, F16 or F32",
         file.file().path().string(), tensor.name, name_of(tensor.type));
  return *dtype;
}

struct OtherFormat {
  std::string_view pattern;
  std::string_view advice;
};

constexpr std::array kOtherFormats{
    OtherFormat{"model-*-of-*.safetensors", "shards without model.safetensors.index.json: fetch the index too"},
    OtherFormat{"*.safetensors", "only model.safetensors or shards with an index are read: rename or index it"},
    OtherFormat{"*.gguf", "a GGUF file: give the file itself, not its folder"},
    OtherFormat{"*.bin", "a PyTorch pickle: convert it to safetensors first"},
    OtherFormat{"*.pth", "a PyTorch pickle: convert it to safetensors first"},
    OtherFormat{"*.pt", "a PyTorch pickle: convert it to safetensors first"},
    OtherFormat{"*.h5", "TensorFlow weights or a model store: convert it to safetensors, or give the store itself"},
    OtherFormat{"*.msgpack", "Flax weights: convert it to safetensors first"},
    OtherFormat{"*.onnx", "an ONNX model: give the checkpoint it was exported from"}};

/// '*' only, any characters. Not glob_match: that one does not let '*' cross a dot.
bool matches(std::string_view pattern, std::string_view name) {
  const std::size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == name;
  if (!name.starts_with(pattern.substr(0, star))) return false;
  const std::string_view rest = pattern.substr(star + 1);
  for (std::size_t at = star; at <= name.size(); ++at)
    if (matches(rest, name.substr(at))) return true;
  return false;
}

[[noreturn]] void fail_without_weights(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  for (const OtherFormat& format : kOtherFormats)
    for (const std::string& name : names)
      if (matches(format.pattern, name))
        fail(ErrorKind::missing_input, "{}: no {} in it, but {}, {}", folder.string(), kSingle, name, format.advice);
  fail(ErrorKind::missing_input, "{}: no {} and no {} in it ({} other files)", folder.string(), kSingle, kIndex,
       names.size());
}

std::vector<SafetensorsFile> open_shards(const std::filesystem::path& folder) {
  std::vector<SafetensorsFile> files;
  const auto weight_map = read_weight_map(folder);
  for (const std::string& shard : shard_names(weight_map)) {
    if (!is_in_folder(folder, shard))
      fail(ErrorKind::missing_input, "{}: shard '{}' of the index is missing", folder.string(), shard);
    files.emplace_back(path_in_folder(folder, shard));
    check_shard(files.back(), shard, weight_map);
  }
  std::size_t count = 0;
  for (const SafetensorsFile& file : files) count += file.tensors().size();
  if (count == weight_map.size()) return files;  // each is mapped to the shard it is in, so the sets are equal
  for (const auto& [name, shard] : weight_map)
    if (std::ranges::none_of(files, [&, &key = name](const auto& file) { return file.find(key) != nullptr; }))
      fail(ErrorKind::bad_data, "{}: tensor '{}' is not in shard '{}', where the index puts it", folder.string(), name,
           shard);
  return files;
}

}  // namespace

SafetensorsFolder::SafetensorsFolder(std::filesystem::path folder)
    : folder_(std::move(folder)), files_(open_safetensors_files(folder_)) {
  collect();
}

std::vector<SafetensorsFile> open_safetensors_files(const std::filesystem::path& folder) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(folder, error);
  if (!std::filesystem::exists(status)) fail(ErrorKind::missing_input, "{}: no such folder", folder.string());
  if (!std::filesystem::is_directory(status))
    fail(ErrorKind::missing_input, "{}: not a folder; give the checkpoint's folder", folder.string());
  if (is_in_folder(folder, kIndex)) return open_shards(folder);
  if (!is_in_folder(folder, kSingle)) fail_without_weights(folder);
  std::vector<SafetensorsFile> files;
  files.emplace_back(path_in_folder(folder, kSingle));
  return files;
}

void SafetensorsFolder::collect() {
  std::vector<std::pair<TensorInfo, Where>> all;
  for (std::size_t f = 0; f < files_.size(); ++f)
    for (const SafetensorsTensor& tensor : files_[f].tensors())
      all.push_back({{tensor.name, readable_dtype(tensor, files_[f]), tensor.shape, tensor.bytes()},
                     {f, checked_add(files_[f].data_start(), tensor.begin)}});
  std::ranges::sort(all, {}, [](const auto& entry) -> const std::string& { return entry.first.name; });
  for (auto& [info, where] : all) {
    tensors_.push_back(std::move(info));
    where_.push_back(where);
  }
}

void SafetensorsFolder::read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const {
  const Where& where = where_[index_of(tensor)];
  check_range(tensor, offset, out.size());
  files_[where.file].file().read(where.offset + offset, out);
}

std::optional<FilePlace> SafetensorsFolder::place(const TensorInfo& tensor) const {
  const Where& where = where_[index_of(tensor)];
  return FilePlace{files_[where.file].file().path(), where.offset};
}

std::unique_ptr<TensorSource> open_checkpoint_folder(const std::filesystem::path& folder) {
  return std::make_unique<SafetensorsFolder>(folder);
}

}  // namespace adze
