#include "checkpoint/export_manifest.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/folder_files.h"

namespace adze {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kHashDigits = 32;

std::string padded(const std::string& hash) { return hash.empty() ? std::string(kHashDigits, ' ') : hash; }

Json entry(const ExportManifest::Tensor& tensor) {
  return {{"name", tensor.name},
          {"file", tensor.file},
          {"begin", tensor.begin},
          {"bytes", tensor.bytes},
          {"xxh3", padded(tensor.hash)}};
}

/// Members of a foreign object; every wrong one is the same error.
class Reader {
 public:
  Reader(const nlohmann::json& object, const std::string& origin) : object_(object), origin_(origin) {
    if (!object.is_object()) malformed();
  }
  std::string text(const char* key) const {
    if (!member(key).is_string()) malformed();
    return member(key).get<std::string>();
  }
  std::string hash(const char* key) const {
    std::string digits = text(key);
    if (digits.size() != kHashDigits) malformed();
    return digits;
  }
  /// Of a file in the folder.
  std::string file(const char* key) const {
    std::string name = text(key);
    if (!is_bare_name(name)) malformed();
    return name;
  }
  std::uint64_t count(const char* key) const {
    if (!member(key).is_number_unsigned()) malformed();
    return member(key).get<std::uint64_t>();
  }
  const nlohmann::json& list(const char* key) const {
    if (!member(key).is_array()) malformed();
    return member(key);
  }
  const nlohmann::json& member(const char* key) const {
    if (!object_.contains(key)) malformed();
    return object_.at(key);
  }
  [[noreturn]] void malformed() const {
    fail(ErrorKind::bad_data, "{}: is no list of what was exported; remove it to go without", origin_);
  }

 private:
  const nlohmann::json& object_;
  const std::string& origin_;
};

}  // namespace

std::string ExportManifest::text() const {
  Json json{{"format", format}, {"provenance", Json::object()}, {"hash", "xxh3-128"}};
  for (const auto& [key, value] : provenance)
    if (!value.empty()) json["provenance"][key] = value;
  json["files"] = Json::array();
  for (const File& file : files) json["files"].push_back({{"name", file.name}, {"xxh3", padded(file.hash)}});
  json["tensors"] = Json::array();
  for (const Tensor& tensor : tensors) json["tensors"].push_back(entry(tensor));
  return json.dump(1) + "\n";
}

std::uint64_t bytes_in_export_manifest(const ExportManifest::Tensor& tensor) {
  const std::string alone = entry(tensor).dump(1);
  const auto lines = static_cast<std::uint64_t>(1 + std::ranges::count(alone, '\n'));
  constexpr std::uint64_t kIndent = 2, kCommaAndNewline = 2;
  return alone.size() + kIndent * lines + kCommaAndNewline;
}

ExportManifest parse_export_manifest(const std::string& text, const std::string& origin) {
  const nlohmann::json json = parse_json(text, origin);
  const Reader reader(json, origin);
  ExportManifest manifest;
  manifest.format = reader.text("format");
  const nlohmann::json& provenance = reader.member("provenance");
  if (!provenance.is_object()) reader.malformed();
  for (const auto& [key, value] : provenance.items())
    manifest.provenance.emplace_back(key, Reader(provenance, origin).text(key.c_str()));
  for (const nlohmann::json& item : reader.list("files")) {
    const Reader file(item, origin);
    manifest.files.push_back({file.file("name"), file.hash("xxh3")});
  }
  for (const nlohmann::json& item : reader.list("tensors")) {
    const Reader tensor(item, origin);
    manifest.tensors.push_back(
        {tensor.text("name"), tensor.file("file"), tensor.count("begin"), tensor.count("bytes"), tensor.hash("xxh3")});
  }
  return manifest;
}

}  // namespace adze
