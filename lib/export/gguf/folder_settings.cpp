#include "export/gguf/folder_settings.h"

#include <array>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

namespace adze {
namespace {

struct JsonFile {
  std::string_view name;
  nlohmann::json FolderSettings::*member;
};
constexpr std::array kJsonFiles = {JsonFile{"config.json", &FolderSettings::config},
                                   JsonFile{"generation_config.json", &FolderSettings::generation_config},
                                   JsonFile{"tokenizer_config.json", &FolderSettings::tokenizer_config}};

}  // namespace

FolderSettings FolderSettings::from(std::span<const StoreFile> files) {
  FolderSettings settings;
  for (const StoreFile& file : files) {
    if (file.name == "chat_template.jinja") settings.chat_template = file.text;
    for (const JsonFile& known : kJsonFiles) {
      if (file.name != known.name) continue;
      settings.*known.member = parse_json(file.text, file.name);
      if (!(settings.*known.member).is_object()) fail(ErrorKind::bad_data, "{}: not a JSON object", file.name);
    }
  }
  return settings;
}

}  // namespace adze
