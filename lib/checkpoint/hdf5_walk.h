// Private: the check of a whole file's structure that Hdf5Reader makes when it opens it.
#pragma once

#include <set>
#include <string>
#include <utility>

#include "checkpoint/hdf5_handle.h"

namespace adze {

/// Visits every object once, refuses what our files never hold, and records the rest in the reader.
class Hdf5Walk {
 public:
  explicit Hdf5Walk(Hdf5Reader& reader) : reader_(reader) {}
  /// Throws bad_data.
  void run();

 private:
  using Object = Hdf5Reader::Object;

  void visit(hid_t id, const std::string& path, unsigned depth);
  void visit_group(hid_t id, const std::string& path, unsigned depth);
  void read_dataset(hid_t id, Object& object) const;
  void read_attributes(hid_t id, Object& object) const;
  void check_storage(hid_t id) const;
  [[noreturn]] void fail_library(std::string_view what) const;

  Hdf5Reader& reader_;
  std::set<std::pair<unsigned long, haddr_t>> seen_;
};

}  // namespace adze
