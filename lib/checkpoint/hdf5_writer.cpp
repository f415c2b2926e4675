#include <algorithm>
#include <system_error>

#include "base/temporaries.h"
#include "checkpoint/hdf5_handle.h"

namespace adze {
namespace {

constexpr std::size_t kMaxAttributeBytes = 60'000;  // an object header holds 64 KiB

/// A property list without time stamps, for any kind of object.
Hdf5Handle timeless(hid_t kind) {
  Hdf5Handle list(H5Pcreate(kind), H5Pclose);
  H5Pset_obj_track_times(list, false);
  return list;
}

/// Format version 1.8 exactly, whatever library writes it.
Hdf5Handle file_access() {
  Hdf5Handle list(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_libver_bounds(list, H5F_LIBVER_V18, H5F_LIBVER_V18);
  return list;
}

Hdf5Handle text_type(std::size_t length) {
  Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, std::max<std::size_t>(length, 1));  // HDF5 has no strings of length 0
  H5Tset_strpad(type, H5T_STR_NULLPAD);
  H5Tset_cset(type, H5T_CSET_UTF8);
  return type;
}

/// Contiguous, allocated at once, and not filled with zeros first: the file system does that.
Hdf5Handle plain_dataset() {
  Hdf5Handle list = timeless(H5P_DATASET_CREATE);
  H5Pset_layout(list, H5D_CONTIGUOUS);
  H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(list, H5D_FILL_TIME_NEVER);
  return list;
}

Hdf5Handle line(std::uint64_t count) {
  const hsize_t size = count;
  return {H5Screate_simple(1, &size, nullptr), H5Sclose};
}

void check_text(const std::filesystem::path& file, std::string_view path, const std::string& text) {
  if (text.find('\0') != std::string::npos)
    fail(ErrorKind::internal, "{}: a text of '{}' contains NUL", file.string(), path);
}

}  // namespace

Hdf5Writer::Hdf5Writer(std::filesystem::path path) : path_(std::move(path)), temporary_(path_.string() + ".tmp") {
  const Hdf5Lock lock;
  const Hdf5Handle creation = timeless(H5P_FILE_CREATE);
  const Hdf5Handle access = file_access();
  register_temporary(temporary_);
  file_ = H5Fcreate(temporary_.c_str(), H5F_ACC_TRUNC, creation, access);
  if (file_ >= 0) return;
  forget_temporary(temporary_);
  fail_hdf5(ErrorKind::cannot_create, path_, "create the file");
}

Hdf5Writer::~Hdf5Writer() {
  if (file_ < 0) return;
  {
    const Hdf5Lock lock;
    H5Fclose(file_);
  }
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
  forget_temporary(temporary_);
}

void Hdf5Writer::make_group(const std::string& path) {
  const Hdf5Lock lock;
  const Hdf5Handle creation = timeless(H5P_GROUP_CREATE);
  const Hdf5Handle group(H5Gcreate2(file_, path.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT), H5Gclose);
  if (group < 0) fail_hdf5(ErrorKind::io, path_, "make group '" + path + "'");
}

void Hdf5Writer::set_attribute(const std::string& path, const std::string& name, const Hdf5Attribute& value) {
  const auto* const text = std::get_if<std::string>(&value);
  if (text != nullptr) check_text(path_, path, *text);
  if (text != nullptr && text->size() > kMaxAttributeBytes)
    fail(ErrorKind::internal, "{}: attribute '{}' of {} bytes is too long", path_.string(), name, text->size());

  const Hdf5Lock lock;
  const Hdf5Handle type =
      text != nullptr
          ? text_type(text->size())
          : Hdf5Handle(H5Tcopy(hdf5_file_type(std::holds_alternative<double>(value) ? Hdf5Type::f64 : Hdf5Type::u64)),
                       H5Tclose);
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle attribute(
      H5Acreate_by_name(file_, path.c_str(), name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
      H5Aclose);
  const void* const data = text != nullptr ? static_cast<const void*>(text->c_str())  // its NUL fills an empty one
                           : std::holds_alternative<double>(value) ? static_cast<const void*>(&std::get<double>(value))
                                                                   : &std::get<std::uint64_t>(value);
  if (attribute < 0 || H5Awrite(attribute, type, data) < 0)
    fail_hdf5(ErrorKind::io, path_, "write attribute '" + name + "' of '" + path + "'");
}

void Hdf5Writer::create_raw(const std::string& path, Hdf5Type type, std::uint64_t count) {
  const Hdf5Lock lock;
  const Hdf5Handle space = line(count);
  const Hdf5Handle creation = plain_dataset();
  const Hdf5Handle dataset(
      H5Dcreate2(file_, path.c_str(), hdf5_file_type(type), space, H5P_DEFAULT, creation, H5P_DEFAULT), H5Dclose);
  if (dataset < 0) fail_hdf5(ErrorKind::io, path_, "create dataset '" + path + "'");
}

void Hdf5Writer::write_raw(const std::string& path, Hdf5Type type, std::uint64_t first, std::uint64_t count,
                           const void* values) {
  if (count == 0) return;
  const Hdf5Lock lock;
  const Hdf5Handle dataset(H5Dopen2(file_, path.c_str(), H5P_DEFAULT), H5Dclose);
  const Hdf5Handle space(dataset < 0 ? -1 : H5Dget_space(dataset), H5Sclose);
  const hsize_t start = first;
  const hsize_t size = count;
  const Hdf5Handle memory = line(count);
  if (space < 0 || H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, nullptr, &size, nullptr) < 0 ||
      H5Dwrite(dataset, hdf5_file_type(type), memory, space, H5P_DEFAULT, values) < 0)
    fail_hdf5(ErrorKind::io, path_, "write dataset '" + path + "'");
}

void Hdf5Writer::write_texts(const std::string& path, std::span<const std::string> texts) {
  std::size_t length = 1;
  for (const std::string& text : texts) {
    check_text(path_, path, text);
    length = std::max(length, text.size());
  }
  std::string cells(length * texts.size(), '\0');
  for (std::size_t i = 0; i < texts.size(); ++i) texts[i].copy(cells.data() + i * length, length);

  const Hdf5Lock lock;
  const Hdf5Handle type = text_type(length);
  const Hdf5Handle space = line(texts.size());
  const Hdf5Handle creation = plain_dataset();
  const Hdf5Handle dataset(H5Dcreate2(file_, path.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT), H5Dclose);
  if (dataset < 0 || (!texts.empty() && H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, cells.data()) < 0))
    fail_hdf5(ErrorKind::io, path_, "write dataset '" + path + "'");
}

void Hdf5Writer::commit() {
  {
    const Hdf5Lock lock;
    if (H5Fclose(file_) < 0) fail_hdf5(ErrorKind::io, path_, "close the file");
    file_ = -1;
  }
  publish_file(temporary_, path_);
  forget_temporary(temporary_);
}

}  // namespace adze
