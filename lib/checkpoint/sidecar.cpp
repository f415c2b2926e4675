#include "checkpoint/sidecar.h"

#include <string>
#include <system_error>

#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"

namespace adze {
namespace {

constexpr std::size_t kHashDigits = 32;
constexpr std::uint64_t kMaxSidecarBytes = 8192;

}  // namespace

std::filesystem::path sidecar_path(const std::filesystem::path& file) { return file.string() + ".xxh3"; }

void write_sidecar(const std::filesystem::path& file) {
  write_file(sidecar_path(file), fmt::format("{}  {}\n", hash_file(file), file.filename().string()));
}

void check_sidecar(const std::filesystem::path& file) {
  const InputFile probe(file);
  const std::filesystem::path sidecar = sidecar_path(file);
  std::error_code error;
  if (!std::filesystem::exists(sidecar, error))
    fail(ErrorKind::bad_data, "{}: its checksum file {} is missing; make the file again",
         file.string(), sidecar.filename().string());
  const std::string expected = read_file(sidecar, kMaxSidecarBytes).substr(0, kHashDigits);
  const std::string actual = hash_file(file);
  if (expected != actual)
    fail(ErrorKind::bad_data,
         "{}: its hash is {}, {} says {}: damaged or changed; make it again", file.string(),
         actual, sidecar.filename().string(), expected);
}

}  // namespace adze
