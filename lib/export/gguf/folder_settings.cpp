#include "export/gguf/folder_settings.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "model/gguf_files.h"

namespace adze {
namespace {

struct JsonFile {
  std::string_view name;
  nlohmann::json FolderSettings::*member;
};
constexpr std::array kJsonFiles = {JsonFile{"config.json", &FolderSettings::config},
                                   JsonFile{"generation_config.json", &FolderSettings::generation_config},
                                   JsonFile{"tokenizer_config.json", &FolderSettings::tokenizer_config}};

constexpr std::string_view kFence = "---";
constexpr std::string_view kLicenseKey = "license:";
constexpr std::string_view kBlank = " \t\r";
constexpr std::size_t kMaxLicense = 200;  // an identifier such as "apache-2.0"

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlank);
  return first == std::string_view::npos ? "" : text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

/// A plain or quoted YAML scalar on one line; empty for anything else, such as a list.
std::string plain_scalar(std::string_view text) {
  text = trimmed(text.substr(0, text.find(" #")));
  const bool quoted = text.size() >= 2 && (text.front() == '"' || text.front() == '\'') && text.back() == text.front();
  if (quoted) text = text.substr(1, text.size() - 2);
  const bool plain = std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' ||
           c == '_' || c == '+' || c == ' ';
  });
  return plain && text.size() <= kMaxLicense ? std::string(text) : "";
}

/// `license` between the two fence lines at the start of a README.
std::string front_matter_license(std::string_view readme) {
  if (trimmed(take_line(readme)) != kFence) return "";
  std::string license;
  while (!readme.empty()) {
    const std::string_view line = take_line(readme);
    if (trimmed(line) == kFence) return license;
    if (line.starts_with(kLicenseKey)) license = plain_scalar(line.substr(kLicenseKey.size()));
  }
  return "";  // never closed: no front matter
}

nlohmann::json parse_object(const StoreFile& file) {
  nlohmann::json parsed = parse_json(file.text, file.name);
  if (!parsed.is_object()) fail(ErrorKind::bad_data, "{}: not a JSON object", file.name);
  return parsed;
}

}  // namespace

FolderSettings FolderSettings::from(std::span<const StoreFile> files) {
  FolderSettings settings;
  for (const StoreFile& file : files) {
    if (file.name == "chat_template.jinja") settings.chat_template = file.text;
    if (file.name == "README.md") settings.readme = file.text;
    if (file.name == kGgufKeysFile) settings.gguf_keys = parse_object(file);
    for (const JsonFile& known : kJsonFiles) {
      if (file.name != known.name) continue;
      settings.*known.member = parse_object(file);
    }
  }
  return settings;
}

std::string FolderSettings::license() const {
  const auto at = config.find("license");
  return at != config.end() && at->is_string() ? at->get<std::string>() : front_matter_license(readme);
}

}  // namespace adze
