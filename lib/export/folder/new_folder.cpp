#include "export/folder/new_folder.h"

#include <algorithm>
#include <array>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/temporaries.h"
#include "checkpoint/export_manifest.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

/// "OUT/" names the folder OUT.
fs::path without_slash(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

/// Throws cannot_create unless there is nothing, an empty folder, or files of a model alone; a finished one has a
/// config.json.
void check_replaceable(const fs::path& path, bool is_finished) {
  if (!fs::exists(fs::symlink_status(path))) return;
  if (!fs::is_directory(fs::symlink_status(path)))
    fail(ErrorKind::cannot_create, "{}: this format is a folder, and there is a file of that name", path.string());
  for (const fs::directory_entry& entry : fs::directory_iterator(path))
    if (!entry.is_regular_file() || !is_model_file(entry.path().filename().string()))
      fail(ErrorKind::cannot_create, "{}: holds '{}', which is of no model: name another folder", path.string(),
           entry.path().filename().string());
  if (is_finished && !fs::is_empty(path) && !fs::exists(path / kModelConfigName))
    fail(ErrorKind::cannot_create, "{}: holds files and no {}: name another folder", path.string(), kModelConfigName);
}

}  // namespace

bool is_model_file(std::string_view name) {
  constexpr std::array<std::string_view, 14> kNames{kModelConfigName,
                                                    "model.safetensors.index.json",
                                                    "README.md",
                                                    "model.safetensors",
                                                    "quantize_config.json",
                                                    "generation_config.json",
                                                    "tokenizer.json",
                                                    "tokenizer_config.json",
                                                    "chat_template.jinja",
                                                    "special_tokens_map.json",
                                                    "model.onnx",
                                                    "model.onnx_data",
                                                    "genai_config.json",
                                                    kExportManifestName};
  constexpr std::string_view kWriting = ".tmp";
  if (name.ends_with(kWriting)) name.remove_suffix(kWriting.size());
  return std::ranges::find(kNames, name) != kNames.end() ||
         (name.starts_with("model-") && name.ends_with(".safetensors"));
}

NewFolder::NewFolder(const fs::path& path) : final_(without_slash(path)), path_(final_.string() + ".tmp") {
  check_replaceable(final_, true);
  check_replaceable(path_, false);
  fs::remove_all(path_);  // of a run that was killed
  register_temporary_folder(path_);
  make_folder(path_);
}

NewFolder::~NewFolder() {
  std::error_code ignored;
  if (!published_) fs::remove_all(path_, ignored);
  forget_temporary(path_);
}

void NewFolder::begin_sync() {
  begun_ = true;
  sync_.run([this] {
    for (const fs::directory_entry& file : fs::directory_iterator(path_)) sync_file(file.path());
    sync_folder(path_);
  });
}

void NewFolder::publish() {
  if (!begun_) begin_sync();
  sync_.wait();
  check_replaceable(final_, true);
  fs::remove_all(final_);
  std::error_code error;
  fs::rename(path_, final_, error);
  if (error) fail(ErrorKind::io, "{}: cannot rename to {}: {}", path_.string(), final_.string(), error.message());
  published_ = true;
  sync_folder(fs::absolute(final_).parent_path());
}

}  // namespace adze
