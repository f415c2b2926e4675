// The text files of a Hugging Face folder that adze keeps verbatim, and the rule for names inside a folder: a bare
// name, no path, no link that leads out. A hub cache's links do lead out; the message says to copy it with links
// followed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace adze {

/// A file kept byte for byte.
struct StoreFile {
  std::string name;  ///< bare: "config.json"
  std::string text;
};

/// Upper limit for the size of a kept file, whatever its name.
inline constexpr std::uint64_t kMaxStoreFileBytes = std::uint64_t{256} << 20;

/// `path` absolute and with links resolved, as far as it exists. Throws missing_input when that fails.
std::filesystem::path real_path(const std::filesystem::path& path);

/// True for a name that is one path component: not empty, no '/', '\', NUL, and no "..".
bool is_bare_name(std::string_view name);

/// True when the folder has an entry of that name, be it a broken link.
bool is_in_folder(const std::filesystem::path& folder, std::string_view name);

/// The real path of `folder`/`name`. Throws bad_data for a name that is not bare or a link that leaves the folder,
/// missing_input when there is no such file.
std::filesystem::path path_in_folder(const std::filesystem::path& folder, std::string_view name);

/// Whether a folder is none without a config.json.
enum class NeedsConfig : std::uint8_t { no, yes };

/// config.json and, when present, generation_config.json, tokenizer.json, tokenizer_config.json, chat_template.jinja,
/// special_tokens_map.json and README.md (which states the licence), in this order. Throws missing_input without a
/// config.json that is needed, bad_data above a file's limit; a README.md above 1 MiB is left out.
std::vector<StoreFile> read_folder_files(const std::filesystem::path& folder, NeedsConfig needs = NeedsConfig::yes);

}  // namespace adze
