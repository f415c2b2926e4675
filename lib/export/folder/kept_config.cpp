#include "export/folder/kept_config.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "export/folder/new_folder.h"

namespace adze {

nlohmann::ordered_json kept_config(const ExportPlan& plan) {
  const auto config = std::ranges::find(plan.files, kModelConfigName, &StoreFile::name);
  if (config == plan.files.end() && plan.architecture.is_listed()) return nlohmann::ordered_json::object();
  if (config == plan.files.end()) fail(ErrorKind::bad_data, "the model has no config.json to write");
  parse_json(config->text, kModelConfigName);  // strict
  auto json = nlohmann::ordered_json::parse(config->text);
  for (const char* const key : {"quantization_config", "quantization", "transformers.js_config"}) json.erase(key);
  return json;
}

}  // namespace adze
