// Files that the HDF5 library accepts and ours must not: made with the library itself, one forbidden thing each.
#include <functional>

#include <hdf5.h>

#include "checkpoint/checkpoint_testing.h"
#include "checkpoint/hdf5.h"

namespace adze {
namespace {

using testing::expect_error;
using testing::TempFolder;

/// A dataset "d" of `type` in the dataspace, with these creation properties.
void make_dataset(hid_t file, hid_t type, hid_t space, hid_t creation = H5P_DEFAULT) {
  const hid_t dataset = H5Dcreate2(file, "d", type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  ASSERT_GE(dataset, 0);
  H5Dclose(dataset);
}

hid_t line(hsize_t count) { return H5Screate_simple(1, &count, nullptr); }

void expect_refused(std::string_view words, const std::function<void(hid_t file)>& fill) {
  SCOPED_TRACE(words);
  const TempFolder folder;
  const auto path = folder / "x.h5";
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  fill(file);
  ASSERT_GE(H5Fclose(file), 0);
  expect_error(ErrorKind::bad_data, words, [&] { Hdf5Reader{path}; });
  expect_error(ErrorKind::bad_data, "x.h5", [&] { Hdf5Reader{path}; });
}

TEST(Hdf5Hostile, RefusesLinksThatAreNotHard) {
  expect_refused("'soft': a soft or external link",
                 [](hid_t file) { H5Lcreate_soft("/nowhere", file, "soft", H5P_DEFAULT, H5P_DEFAULT); });
  expect_refused("'far': a soft or external link",
                 [](hid_t file) { H5Lcreate_external("/etc/other.h5", "/", file, "far", H5P_DEFAULT, H5P_DEFAULT); });
}

TEST(Hdf5Hostile, RefusesObjectsThatAreReachedTwice) {
  expect_refused("'g/up': a second link to one object", [](hid_t file) {
    const hid_t group = H5Gcreate2(file, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_hard(file, "/", group, "up", H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(group);
  });
  expect_refused("'e': a second link to one object", [](hid_t file) {
    make_dataset(file, H5T_STD_U8LE, line(0));
    H5Lcreate_hard(file, "d", file, "e", H5P_DEFAULT, H5P_DEFAULT);
  });
}

TEST(Hdf5Hostile, RefusesDeepGroupsAndNamedTypes) {
  expect_refused("groups deeper than 8", [](hid_t file) {
    std::string path;
    for (int depth = 0; depth < 10; ++depth) {
      path += "/g";
      H5Gclose(H5Gcreate2(file, path.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    }
  });
  expect_refused("'t': neither a group nor a dataset", [](hid_t file) {
    const hid_t type = H5Tcopy(H5T_STD_U8LE);
    H5Tcommit2(file, "t", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Tclose(type);
  });
}

TEST(Hdf5Hostile, RefusesStorageThatIsNotContiguousInTheFile) {
  const auto creation = [](const std::function<void(hid_t)>& set) {
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    set(list);
    return list;
  };
  const hsize_t four = 4;
  expect_refused("chunked, compact or virtual storage", [&](hid_t file) {
    make_dataset(file, H5T_STD_U8LE, line(4), creation([&](hid_t list) { H5Pset_chunk(list, 1, &four); }));
  });
  expect_refused("chunked, compact or virtual storage", [&](hid_t file) {
    make_dataset(file, H5T_STD_U8LE, line(4), creation([&](hid_t list) {
                   H5Pset_chunk(list, 1, &four);
                   H5Pset_deflate(list, 9);
                 }));
  });
  expect_refused("chunked, compact or virtual storage", [&](hid_t file) {
    make_dataset(file, H5T_STD_U8LE, line(4), creation([](hid_t list) { H5Pset_layout(list, H5D_COMPACT); }));
  });
  expect_refused("chunked, compact or virtual storage", [&](hid_t file) {
    make_dataset(file, H5T_STD_U8LE, line(4),
                 creation([](hid_t list) { H5Pset_virtual(list, line(4), "/etc/other.h5", "/d", line(4)); }));
  });
  expect_refused("its data lies in another file", [&](hid_t file) {
    make_dataset(file, H5T_STD_U8LE, line(4),
                 creation([](hid_t list) { H5Pset_external(list, "/etc/hostname", 0, 4); }));
  });
  expect_refused("do not lie inside the file", [](hid_t file) {  // never written: no storage was given to it
    make_dataset(file, H5T_STD_U8LE, line(4));
  });
}

TEST(Hdf5Hostile, RefusesShapesAndTypesOfOthers) {
  const hsize_t two[2] = {2, 2};
  expect_refused("it is not one-dimensional",
                 [&](hid_t file) { make_dataset(file, H5T_STD_U8LE, H5Screate_simple(2, two, nullptr)); });
  expect_refused("it is not one-dimensional",
                 [](hid_t file) { make_dataset(file, H5T_STD_U8LE, H5Screate(H5S_SCALAR)); });
  expect_refused("it is not one-dimensional",
                 [](hid_t file) { make_dataset(file, H5T_STD_U8LE, H5Screate(H5S_NULL)); });
  const auto text = [](std::size_t size, H5T_str_t padding) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, size);
    H5Tset_strpad(type, padding);
    return type;
  };
  for (const hid_t type : {H5T_STD_U8BE, H5T_STD_I16LE, H5T_STD_U64BE, H5T_IEEE_F32BE, H5T_STD_REF_OBJ,
                           text(H5T_VARIABLE, H5T_STR_NULLTERM), text(4, H5T_STR_SPACEPAD),
                           H5Tvlen_create(H5T_STD_U8LE), H5Tcreate(H5T_COMPOUND, 8)})
    if (H5Tequal(type, H5T_STD_U8LE) == 0)  // one byte has no order
      expect_refused("", [&](hid_t file) {
        if (H5Tget_class(type) == H5T_COMPOUND) H5Tinsert(type, "x", 0, H5T_STD_U64LE);
        make_dataset(file, type, line(2));
      });
  expect_refused("an element type that our files never hold",
                 [](hid_t file) { make_dataset(file, H5T_STD_I16LE, line(2)); });
  expect_refused("texts of 2000000 bytes are above the limit",
                 [&](hid_t file) { make_dataset(file, text(2'000'000, H5T_STR_NULLPAD), line(0)); });
}

TEST(Hdf5Hostile, RefusesAttributesOfOtherKinds) {
  const auto attribute = [](hid_t file, hid_t type, hid_t space) {
    const hid_t id = H5Acreate2(file, "a", type, space, H5P_DEFAULT, H5P_DEFAULT);
    ASSERT_GE(id, 0);
    H5Aclose(id);
  };
  expect_refused("attribute 'a': it is not a scalar", [&](hid_t file) { attribute(file, H5T_STD_U64LE, line(1)); });
  expect_refused("attribute 'a': an attribute type",
                 [&](hid_t file) { attribute(file, H5T_STD_I32LE, H5Screate(H5S_SCALAR)); });
  expect_refused("attribute 'a': an element type",
                 [&](hid_t file) { attribute(file, H5T_STD_U64BE, H5Screate(H5S_SCALAR)); });
}

}  // namespace
}  // namespace adze
