#include "checkpoint/hdf5.h"

#include "base/checked.h"
#include "base/error.h"
#include "checkpoint/hdf5_walk.h"

namespace adze {
namespace {

/// At byte 0: a signature further on would mean a user block, which our files do not have.
void check_signature(const InputFile& file) {
  constexpr std::string_view kSignature = "\x89HDF\r\n\x1a\n";
  std::string start(kSignature.size(), '\0');
  if (file.size() >= start.size()) file.read(0, std::as_writable_bytes(std::span(start)));
  if (start != kSignature) fail(ErrorKind::bad_data, "{}: not an HDF5 file", file.path().string());
}

std::string_view without_slash(std::string_view path) { return path.starts_with('/') ? path.substr(1) : path; }

}  // namespace

Hdf5Reader::Hdf5Reader(std::filesystem::path path) : file_(std::move(path)) {
  check_signature(file_);
  Hdf5Walk(*this).run();
}

const Hdf5Reader::Object& Hdf5Reader::object(std::string_view path) const {
  const auto at = objects_.find(without_slash(path));
  if (at == objects_.end()) fail(ErrorKind::bad_data, "{}: '{}' is missing", this->path().string(), path);
  return at->second;
}

const Hdf5Reader::Object& Hdf5Reader::dataset(std::string_view path, Hdf5Type type) const {
  const Object& found = object(path);
  if (found.is_group || found.type != type)
    fail(ErrorKind::bad_data, "{}: '{}' is not a dataset of the expected type", this->path().string(), path);
  return found;
}

std::vector<std::string> Hdf5Reader::names(std::string_view group) const {
  if (!object(group).is_group) fail(ErrorKind::bad_data, "{}: '{}' is not a group", path().string(), group);
  std::string prefix(without_slash(group));
  if (!prefix.empty()) prefix += '/';
  std::vector<std::string> names;
  for (auto at = objects_.lower_bound(prefix); at != objects_.end() && at->first.starts_with(prefix); ++at) {
    const std::string_view rest = std::string_view(at->first).substr(prefix.size());
    if (!rest.empty() && rest.find('/') == std::string_view::npos) names.emplace_back(rest);
  }
  return names;
}

bool Hdf5Reader::has(std::string_view path) const { return objects_.find(without_slash(path)) != objects_.end(); }

bool Hdf5Reader::has_attribute(std::string_view path, std::string_view name) const {
  const auto at = objects_.find(without_slash(path));
  return at != objects_.end() && at->second.attributes.find(name) != at->second.attributes.end();
}

template <typename T>
const T& Hdf5Reader::typed_attribute(std::string_view path, std::string_view name) const {
  const auto& attributes = object(path).attributes;
  const auto at = attributes.find(name);
  if (at == attributes.end())
    fail(ErrorKind::bad_data, "{}: '{}' has no attribute '{}'", this->path().string(), path, name);
  const T* const value = std::get_if<T>(&at->second);
  if (value == nullptr)
    fail(ErrorKind::bad_data, "{}: '{}': attribute '{}' has another type", this->path().string(), path, name);
  return *value;
}

const std::string& Hdf5Reader::text(std::string_view path, std::string_view name) const {
  return typed_attribute<std::string>(path, name);
}
std::uint64_t Hdf5Reader::number(std::string_view path, std::string_view name) const {
  return typed_attribute<std::uint64_t>(path, name);
}
double Hdf5Reader::real(std::string_view path, std::string_view name) const {
  return typed_attribute<double>(path, name);
}

std::uint64_t Hdf5Reader::count(std::string_view path) const {
  const Object& found = object(path);
  if (found.is_group) fail(ErrorKind::bad_data, "{}: '{}' is a group", this->path().string(), path);
  return found.count;
}

std::uint64_t Hdf5Reader::checked_count(std::string_view path, Hdf5Type type, std::uint64_t max_count) const {
  const Object& found = dataset(path, type);
  if (found.count > max_count)
    fail(ErrorKind::bad_data, "{}: '{}' has {} elements, more than the limit of {}", this->path().string(), path,
         found.count, max_count);
  return found.count;
}

void Hdf5Reader::read_raw(std::string_view path, Hdf5Type type, std::uint64_t first, std::uint64_t count,
                          std::span<std::byte> out) const {
  const Object& found = dataset(path, type);
  if (first > found.count || count > found.count - first)
    fail(ErrorKind::bad_data, "{}: '{}': elements {} to {}+{} lie outside its {}", this->path().string(), path, first,
         first, count, found.count);
  if (count > 0) file_.read(found.offset + first * found.element_bytes, out);
}

std::vector<std::string> Hdf5Reader::read_texts(std::string_view path, std::uint64_t max_count,
                                                std::uint64_t max_length) const {
  const std::uint64_t count = checked_count(path, Hdf5Type::text, max_count);
  const std::uint64_t length = dataset(path, Hdf5Type::text).element_bytes;
  if (length > max_length)
    fail(ErrorKind::bad_data, "{}: '{}' has texts of {} bytes, more than the limit of {}", this->path().string(), path,
         length, max_length);
  std::string cells(checked_mul(count, length), '\0');
  read_raw(path, Hdf5Type::text, 0, count, std::as_writable_bytes(std::span(cells)));
  std::vector<std::string> texts;
  texts.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    std::string text = cells.substr(i * length, length);
    text.resize(text.find_last_not_of('\0') + 1);
    texts.push_back(std::move(text));
  }
  return texts;
}

ByteArray Hdf5Reader::read_array(std::string_view path, std::uint64_t max_count) const {
  ByteArray bytes(checked_count(path, Hdf5Type::u8, max_count));
  read_part<std::byte>(path, 0, bytes);
  return bytes;
}

std::string Hdf5Reader::read_bytes(std::string_view path, std::uint64_t max_count) const {
  std::string bytes(checked_count(path, Hdf5Type::u8, max_count), '\0');
  read_part<std::byte>(path, 0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

}  // namespace adze
