// Files of a split model: NAME-00001-of-00003.gguf holds all metadata, the others only their part of the tensors.
#include <unordered_set>

#include "checkpoint/gguf.h"

namespace adze {
namespace {

std::string suffix(std::size_t number, std::size_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", number + 1, count);
}

/// NAME of the first file's NAME-00001-of-COUNT.gguf.
std::string name_of_split(const GgufFile& first, const GgufSplit& split) {
  const std::string name = first.path().filename().string();
  const std::string expected = suffix(0, split.count);
  if (split.number != 0)
    fail(ErrorKind::bad_data, "{}: file {} of a split model; give the first one, NAME{}", first.path().string(),
         split.number + 1, expected);
  if (!name.ends_with(expected))
    fail(ErrorKind::bad_data, "{}: the first of {} files must be named NAME{}", first.path().string(), split.count,
         expected);
  return name.substr(0, name.size() - expected.size());
}

void check_part(const GgufFile& file, std::size_t number, std::size_t count) {
  const auto split = file.split();
  if (!split || split->number != number || split->count != count)
    fail(ErrorKind::bad_data, "{}: its split keys do not say file {} of {}", file.path().string(), number + 1, count);
}

void check_tensors(std::span<const GgufFile> files, std::int32_t expected) {
  std::unordered_set<std::string_view> names;
  for (const GgufFile& file : files)
    for (const GgufTensor& tensor : file.tensors())
      if (!names.insert(tensor.name).second)
        fail(ErrorKind::bad_data, "{}: tensor '{}' is in another file of the split too", file.path().string(),
             tensor.name);
  if (!std::in_range<std::int32_t>(names.size()) || static_cast<std::int32_t>(names.size()) != expected)
    fail(ErrorKind::bad_data, "{}: the files hold {} tensors, split.tensors.count says {}",
         files.front().path().string(), names.size(), expected);
}

}  // namespace

std::vector<GgufFile> open_gguf(const std::filesystem::path& path) {
  std::vector<GgufFile> files;
  files.emplace_back(path);
  const auto split = files.front().split();
  if (!split) return files;
  const std::string name = name_of_split(files.front(), *split);
  for (unsigned number = 1; number < split->count; ++number) {
    files.emplace_back(path.parent_path() / (name + suffix(number, split->count)));
    check_part(files.back(), number, split->count);
  }
  check_tensors(files, split->tensors);
  return files;
}

std::vector<GgufFile> open_gguf_parts(std::span<const std::filesystem::path> paths) {
  std::vector<GgufFile> files;
  for (const std::filesystem::path& path : paths) files.emplace_back(path);
  if (files.size() == 1) return files;
  for (std::size_t i = 0; i < files.size(); ++i) check_part(files[i], i, files.size());
  check_tensors(files, files.front().split()->tensors);
  return files;
}

std::filesystem::path gguf_part_path(const std::filesystem::path& whole, std::size_t number, std::size_t count) {
  if (count == 1) return whole;
  if (whole.extension() != ".gguf")
    fail(ErrorKind::usage, "{}: the name of a file that is split must end with .gguf", whole.string());
  return whole.parent_path() / (whole.stem().string() + suffix(number, count));
}

}  // namespace adze
