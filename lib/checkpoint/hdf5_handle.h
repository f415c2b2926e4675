// Private to the HDF5 files of this folder: the lock, owned handles, and the library's errors as ours.
#pragma once

#include <filesystem>
#include <mutex>
#include <string_view>
#include <utility>

#include <hdf5.h>

#include "base/error.h"
#include "checkpoint/hdf5.h"

namespace adze {

/// Held around every use of the library: common builds of it are not thread-safe. Also silences its error printing,
/// a setting that is kept per thread where it is.
class Hdf5Lock {
 public:
  Hdf5Lock();

 private:
  std::lock_guard<std::mutex> guard_;
};

/// An open identifier and the function that closes it.
class Hdf5Handle {
 public:
  Hdf5Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  ~Hdf5Handle() {
    if (id_ >= 0) close_(id_);
  }
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&&) = delete;

  operator hid_t() const { return id_; }
  hid_t release() { return std::exchange(id_, -1); }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

/// Throws `kind`: "FILE: cannot WHAT: the library's innermost reason".
[[noreturn]] void fail_hdf5(ErrorKind kind, const std::filesystem::path& file, std::string_view what);

/// The file type of a number type.
hid_t hdf5_file_type(Hdf5Type type);

}  // namespace adze
