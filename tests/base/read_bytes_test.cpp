#include "base/read_bytes.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/checkpoint_testing.h"

namespace adze {
namespace {

using namespace testing;

TEST(ReadBytes, OfAnySizeAreThoseOfTheFile) {
  std::string text(2 * kReadPiece + 77, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + i / 251);
  const TempFolder folder;
  folder.put("file", text);
  const InputFile file(folder / "file");
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, kReadPiece, kReadPiece + 1, text.size() - 5}) {
    const std::vector<std::byte> bytes = read_bytes(file, 5, count);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), text.substr(5, count));
  }
}

TEST(ReadBytes, OutsideOfTheFileAreRefused) {
  const TempFolder folder;
  folder.put("file", "0123456789");
  const InputFile file(folder / "file");
  expect_error(ErrorKind::bad_data, "bytes 5 to 5+6 lie outside the file of 10 bytes", [&] { read_bytes(file, 5, 6); });
  expect_error(ErrorKind::bad_data, "lie outside the file", [&] { read_bytes(file, 11, 0); });
  expect_error(ErrorKind::bad_data, "lie outside the file", [&] { read_bytes(file, 0, std::uint64_t{1} << 62); });
}

}  // namespace
}  // namespace adze
