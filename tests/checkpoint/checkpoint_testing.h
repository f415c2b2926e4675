// What the tests of this folder share: a temporary folder, hand-made files, and checks of an error's kind and message.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"

namespace adze::testing {

/// A new empty folder, removed at the end of the test.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "adze-test-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::system_error(errno, std::generic_category(), "mkdtemp");
    path_ = pattern;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  std::filesystem::path put(std::string_view name, std::string_view bytes) const {
    std::ofstream(path_ / name, std::ios::binary) << bytes;  // without the sync of write_file(): thousands of these
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

/// `value` as little-endian bytes.
template <typename T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// A safetensors file made of any header text and any data.
inline std::string safetensors_bytes_of(std::string_view header, std::string_view data) {
  return raw<std::uint64_t>(header.size()).append(header).append(data);
}

/// Runs `body`, which must throw an Error of `kind` whose message contains `words`.
inline void expect_error(ErrorKind kind, std::string_view words, const std::function<void()>& body) {
  try {
    body();
    ADD_FAILURE() << "no error; expected one with: " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(error.message(), ::testing::HasSubstr(std::string(words)));
  }
}

}  // namespace adze::testing
