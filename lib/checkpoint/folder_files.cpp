#include "checkpoint/folder_files.h"

#include <array>
#include <system_error>

#include "base/error.h"
#include "base/file.h"

namespace adze {
namespace {

struct KnownFile {
  std::string_view name;
  std::uint64_t limit;
  bool required;
};

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// Limits are some ten times the largest published ones (tokenizer.json of 260k tokens: about 33 MB).
constexpr std::array kKnownFiles{KnownFile{"config.json", 16 * kMiB, true},
                                 KnownFile{"generation_config.json", 1 * kMiB, false},
                                 KnownFile{"tokenizer.json", kMaxStoreFileBytes, false},
                                 KnownFile{"tokenizer_config.json", 64 * kMiB, false},
                                 KnownFile{"chat_template.jinja", 16 * kMiB, false},
                                 KnownFile{"special_tokens_map.json", 16 * kMiB, false}};

constexpr std::string_view kReadme = "README.md";
constexpr std::uint64_t kReadmeLimit = 1 * kMiB;

/// For its front matter only: one that is too large or no file is done without.
bool has_readme(const std::filesystem::path& folder) {
  std::error_code error;
  const std::filesystem::path path = folder / kReadme;
  if (!std::filesystem::is_regular_file(path, error)) return false;
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  return !error && bytes <= kReadmeLimit;
}

}  // namespace

std::filesystem::path real_path(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path real = std::filesystem::absolute(path, error);
  if (!error) real = std::filesystem::weakly_canonical(real, error);
  if (error) fail(ErrorKind::missing_input, "{}: {}", path.string(), error.message());
  return real;
}

bool is_bare_name(std::string_view name) {
  return !name.empty() && name != "." && name.find("..") == std::string_view::npos &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

bool is_in_folder(const std::filesystem::path& folder, std::string_view name) {
  std::error_code error;
  return std::filesystem::exists(std::filesystem::symlink_status(folder / name, error));
}

std::filesystem::path path_in_folder(const std::filesystem::path& folder, std::string_view name) {
  if (!is_bare_name(name)) fail(ErrorKind::bad_data, "{}: '{}' is not a plain file name", folder.string(), name);
  std::error_code error;
  const std::filesystem::path home = std::filesystem::canonical(folder, error);
  if (error) fail(ErrorKind::missing_input, "{}: {}", folder.string(), error.message());
  const std::filesystem::path path = std::filesystem::canonical(home / name, error);
  if (error) fail(ErrorKind::missing_input, "{}: {}", (folder / name).string(), error.message());
  if (path.parent_path() != home)
    fail(ErrorKind::bad_data, "{}: a link to {}, outside the folder; copy the folder with `cp -rL` and use the copy",
         (folder / name).string(), path.string());
  return path;
}

std::vector<StoreFile> read_folder_files(const std::filesystem::path& folder, NeedsConfig needs) {
  std::vector<StoreFile> files;
  for (const KnownFile& known : kKnownFiles) {
    if (!(known.required && needs == NeedsConfig::yes) && !is_in_folder(folder, known.name)) continue;
    files.push_back({std::string(known.name), read_file(path_in_folder(folder, known.name), known.limit)});
  }
  if (has_readme(folder))
    files.push_back({std::string(kReadme), read_file(path_in_folder(folder, kReadme), kReadmeLimit)});
  return files;
}

}  // namespace adze
