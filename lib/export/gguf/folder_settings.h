// The files of a checkpoint folder that a GGUF's metadata come from, parsed. A file that is not there is an empty
// object.
#pragma once

#include <span>
#include <string>

#include <nlohmann/json.hpp>

#include "checkpoint/folder_files.h"

namespace adze {

struct FolderSettings {
  nlohmann::json config = nlohmann::json::object();
  nlohmann::json generation_config = nlohmann::json::object();
  nlohmann::json tokenizer_config = nlohmann::json::object();
  nlohmann::json gguf_keys = nlohmann::json::object();  ///< gguf.json, of a model from GGUF (model/gguf_files.h)
  std::string chat_template;                            ///< chat_template.jinja
  std::string readme;                                   ///< README.md

  /// Throws bad_data when a file is no JSON object.
  static FolderSettings from(std::span<const StoreFile> files);

  /// `license` of config.json, else of the README's front matter, where Hugging Face states it; empty: not stated.
  std::string license() const;
};

}  // namespace adze
