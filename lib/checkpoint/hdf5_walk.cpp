#include "checkpoint/hdf5_walk.h"

#include <cstring>

#include "base/checked.h"

namespace adze {
namespace {

constexpr unsigned kMaxDepth = 8;
constexpr std::size_t kMaxObjects = 1'000'000;
constexpr std::size_t kMaxAttributes = 1000;
constexpr std::size_t kMaxAttributeBytes = 65536;
constexpr std::size_t kMaxTextBytes = std::size_t{1} << 20;

/// A link's name and whether it is a hard one; callbacks collect these, since exceptions must not cross the library.
struct Names {
  std::vector<std::pair<std::string, bool>> all;
  std::size_t limit;
};

herr_t add_link(hid_t, const char* name, const H5L_info_t* info, void* data) noexcept {
  auto& names = *static_cast<Names*>(data);
  if (names.all.size() >= names.limit) return -1;
  try {
    names.all.emplace_back(name, info->type == H5L_TYPE_HARD);
  } catch (...) {
    return -1;
  }
  return 0;
}

herr_t add_attribute(hid_t, const char* name, const H5A_info_t*, void* data) noexcept {
  auto& names = *static_cast<Names*>(data);
  if (names.all.size() >= names.limit) return -1;
  try {
    names.all.emplace_back(name, true);
  } catch (...) {
    return -1;
  }
  return 0;
}

struct Kind {
  Hdf5Type type;
  std::size_t bytes;
};

/// The type of ours that a stored type is. Throws bad_data for every other.
Kind kind_of(hid_t type, std::size_t max_text) {
  for (const Hdf5Type number : {Hdf5Type::u8, Hdf5Type::i32, Hdf5Type::u64, Hdf5Type::f32, Hdf5Type::f64})
    if (H5Tequal(type, hdf5_file_type(number)) > 0) return {number, H5Tget_size(type)};
  const bool is_text =
      H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 && H5Tget_strpad(type) == H5T_STR_NULLPAD;
  if (!is_text) fail(ErrorKind::bad_data, "an element type that our files never hold");
  const std::size_t bytes = H5Tget_size(type);
  if (bytes == 0 || bytes > max_text)
    fail(ErrorKind::bad_data, "texts of {} bytes are above the limit of {}", bytes, max_text);
  return {Hdf5Type::text, bytes};
}

/// Elements of a one-dimensional dataspace. Contiguous storage is of fixed size.
std::uint64_t line_length(hid_t space) {
  if (H5Sget_simple_extent_type(space) != H5S_SIMPLE || H5Sget_simple_extent_ndims(space) != 1)
    fail(ErrorKind::bad_data, "it is not one-dimensional");
  hsize_t count = 0;
  if (H5Sget_simple_extent_dims(space, &count, nullptr) != 1) fail(ErrorKind::bad_data, "its size cannot be read");
  return count;
}

Hdf5Attribute read_value(hid_t attribute) {
  const Hdf5Handle space(H5Aget_space(attribute), H5Sclose);
  if (H5Sget_simple_extent_type(space) != H5S_SCALAR) fail(ErrorKind::bad_data, "it is not a scalar");
  const Hdf5Handle type(H5Aget_type(attribute), H5Tclose);
  const Kind kind = kind_of(type, kMaxAttributeBytes);
  std::string bytes(kind.bytes, '\0');
  if (H5Aread(attribute, type, bytes.data()) < 0) fail(ErrorKind::bad_data, "it cannot be read");
  const auto as = [&]<typename T>(T value) {
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  };
  if (kind.type == Hdf5Type::u64) return as(std::uint64_t{});
  if (kind.type == Hdf5Type::f64) return as(double{});
  if (kind.type != Hdf5Type::text) fail(ErrorKind::bad_data, "an attribute type that our files never hold");
  bytes.resize(bytes.find_last_not_of('\0') + 1);
  return bytes;
}

}  // namespace

void Hdf5Walk::fail_library(std::string_view what) const { fail_hdf5(ErrorKind::bad_data, reader_.path(), what); }

void Hdf5Walk::run() {
  const Hdf5Lock lock;
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_file_locking(access, false, true);  // shared read-only file systems often have no locks
  const Hdf5Handle file(H5Fopen(reader_.path().c_str(), H5F_ACC_RDONLY, access), H5Fclose);
  if (file < 0) fail_library("open it as HDF5");
  const Hdf5Handle root(H5Oopen(file, "/", H5P_DEFAULT), H5Oclose);
  if (root < 0) fail_library("open its root group");
  visit(root, "", 0);
}

void Hdf5Walk::visit(hid_t id, const std::string& path, unsigned depth) {
  H5O_info_t info{};
  if (H5Oget_info(id, &info) < 0) fail_library("look at '" + path + "'");
  if (!seen_.emplace(info.fileno, info.addr).second)
    fail(ErrorKind::bad_data, "{}: '{}': a second link to one object", reader_.path().string(), path);
  if (seen_.size() > kMaxObjects)
    fail(ErrorKind::bad_data, "{}: more than {} objects", reader_.path().string(), kMaxObjects);
  with_context(fmt::format("{}: '{}'", reader_.path().string(), path), [&] {
    Object object;
    read_attributes(id, object);
    if (info.type == H5O_TYPE_DATASET)
      read_dataset(id, object);
    else if (info.type == H5O_TYPE_GROUP)
      object.is_group = true;
    else
      fail(ErrorKind::bad_data, "neither a group nor a dataset");
    reader_.objects_.emplace(path, std::move(object));
  });
  if (info.type == H5O_TYPE_GROUP) visit_group(id, path, depth);
}

void Hdf5Walk::visit_group(hid_t id, const std::string& path, unsigned depth) {
  if (depth == kMaxDepth)
    fail(ErrorKind::bad_data, "{}: '{}': groups deeper than {}", reader_.path().string(), path, kMaxDepth);
  Names names{{}, kMaxObjects};
  hsize_t position = 0;
  if (H5Literate(id, H5_INDEX_NAME, H5_ITER_INC, &position, add_link, &names) < 0)
    fail_library("list the group '" + path + "'");
  for (const auto& [name, is_hard] : names.all) {
    const std::string child = path.empty() ? name : path + "/" + name;
    if (!is_hard) fail(ErrorKind::bad_data, "{}: '{}': a soft or external link", reader_.path().string(), child);
    const Hdf5Handle object(H5Oopen(id, name.c_str(), H5P_DEFAULT), H5Oclose);
    if (object < 0) fail_library("open '" + child + "'");
    visit(object, child, depth + 1);
  }
}

void Hdf5Walk::read_attributes(hid_t id, Object& object) const {
  Names names{{}, kMaxAttributes};
  hsize_t position = 0;
  if (H5Aiterate2(id, H5_INDEX_NAME, H5_ITER_INC, &position, add_attribute, &names) < 0)
    fail(ErrorKind::bad_data, "its attributes cannot be listed or are too many");
  for (const auto& [name, unused] : names.all)
    with_context(fmt::format("attribute '{}'", name), [&, &key = name] {
      const Hdf5Handle attribute(H5Aopen(id, key.c_str(), H5P_DEFAULT), H5Aclose);
      if (attribute < 0) fail(ErrorKind::bad_data, "it cannot be opened");
      object.attributes.emplace(key, read_value(attribute));
    });
}

void Hdf5Walk::check_storage(hid_t id) const {
  const Hdf5Handle creation(H5Dget_create_plist(id), H5Pclose);
  if (creation < 0) fail(ErrorKind::bad_data, "its layout cannot be read");
  if (H5Pget_layout(creation) != H5D_CONTIGUOUS)
    fail(ErrorKind::bad_data, "chunked, compact or virtual storage; our files have contiguous storage only");
  if (H5Pget_external_count(creation) != 0) fail(ErrorKind::bad_data, "its data lies in another file");
  if (H5Pget_nfilters(creation) != 0) fail(ErrorKind::bad_data, "it uses filters");
}

void Hdf5Walk::read_dataset(hid_t id, Object& object) const {
  check_storage(id);
  const Hdf5Handle space(H5Dget_space(id), H5Sclose);
  const Hdf5Handle type(H5Dget_type(id), H5Tclose);
  const Kind kind = kind_of(type, kMaxTextBytes);
  object.type = kind.type;
  object.element_bytes = kind.bytes;
  object.count = line_length(space);
  if (object.count == 0) return;
  const std::uint64_t bytes = checked_mul(object.count, kind.bytes);
  object.offset = H5Dget_offset(id);
  const std::uint64_t file_bytes = reader_.file_.size();
  if (object.offset == HADDR_UNDEF || object.offset > file_bytes || bytes > file_bytes - object.offset)
    fail(ErrorKind::bad_data, "{} bytes at {} do not lie inside the file of {}", bytes, object.offset, file_bytes);
}

}  // namespace adze
