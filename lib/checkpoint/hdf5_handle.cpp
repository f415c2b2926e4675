#include "checkpoint/hdf5_handle.h"

#include <string>
#include <string_view>

namespace adze {
namespace {

std::mutex g_hdf5_mutex;

herr_t keep_description(unsigned /*position*/, const H5E_error2_t* error, void* text) noexcept {
  if (error->desc != nullptr && *error->desc != '\0') *static_cast<const char**>(text) = error->desc;
  return 0;
}

/// The description of the innermost error on the library's stack.
std::string last_reason() {
  const char* text = "no reason given";
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_description, &text);  // downward ends at the innermost call
  std::string reason = text;
  H5Eclear2(H5E_DEFAULT);
  // Descriptions of failed system calls hold time stamps and pointers around the one part that says something.
  constexpr std::string_view kMessage = "error message = '";
  const std::size_t start = reason.find(kMessage);
  if (start == std::string::npos) return reason;
  const std::size_t from = start + kMessage.size();
  return reason.substr(from, reason.find('\'', from) - from);
}

/// Without the library's handler at exit: after a failed write it would touch the file that it could not close.
bool prepare_library() {
  H5dont_atexit();
  return true;
}

}  // namespace

Hdf5Lock::Hdf5Lock() : guard_(g_hdf5_mutex) {
  static const bool prepared = prepare_library();  // before the first call of anything else
  static_cast<void>(prepared);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

void fail_hdf5(ErrorKind kind, const std::filesystem::path& file, std::string_view what) {
  fail(kind, "{}: cannot {}: {}", file.string(), what, last_reason());
}

hid_t hdf5_file_type(Hdf5Type type) {
  switch (type) {
    case Hdf5Type::u8:
      return H5T_STD_U8LE;
    case Hdf5Type::i32:
      return H5T_STD_I32LE;
    case Hdf5Type::u64:
      return H5T_STD_U64LE;
    case Hdf5Type::f32:
      return H5T_IEEE_F32LE;
    case Hdf5Type::f64:
      return H5T_IEEE_F64LE;
    case Hdf5Type::text:
      break;
  }
  fail(ErrorKind::internal, "texts have no fixed HDF5 type");
}

}  // namespace adze
