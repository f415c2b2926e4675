#include "base/read_bytes.h"

#include <gtest/gtest.h>

#include <mutex>

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

TEST(ReadRows, ComeOnceInWholeMultiples) {
  const std::size_t rows = 1003, row_bytes = 1001;
  std::string text(rows * row_bytes + 7, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + i / 251);
  const TempFolder folder;
  folder.put("file", text);
  const InputFile file(folder / "file");
  for (const std::size_t multiple : {std::size_t{1}, std::size_t{16}, std::size_t{128}, std::size_t{2000}}) {
    std::mutex mutex;
    std::string seen(rows * row_bytes, '\0');
    std::size_t bytes = 0;
    read_rows(file, {7, rows, row_bytes}, multiple, [&](std::size_t first, std::span<const std::byte> piece) {
      const std::lock_guard lock(mutex);
      EXPECT_EQ(first % multiple, 0u);
      EXPECT_EQ(piece.size() % row_bytes, 0u);
      seen.replace(first * row_bytes, piece.size(), reinterpret_cast<const char*>(piece.data()), piece.size());
      bytes += piece.size();
    });
    EXPECT_EQ(bytes, seen.size());
    EXPECT_EQ(seen, text.substr(7));
  }
  const auto unexpected = [](std::size_t, std::span<const std::byte>) { FAIL(); };
  read_rows(file, {7, 0, std::size_t{1} << 60}, 1, unexpected);
  expect_error(ErrorKind::bad_data, "lie outside the file", [&] {
    read_rows(file, {8, rows, row_bytes}, 1, unexpected);
  });
  expect_error(ErrorKind::bad_data, "size overflow", [&] {
    read_rows(file, {0, std::size_t{1} << 40, std::size_t{1} << 40}, 1, unexpected);
  });
}

}  // namespace
}  // namespace adze
