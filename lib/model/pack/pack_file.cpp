#include "model/pack/pack_file.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "base/hash.h"

namespace adze {
namespace {

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

PackFile::PackFile(const std::filesystem::path& path) : file_(path), manifest_(parse_pack_head(file_)) {}

const PackTensor* PackFile::find(std::string_view name) const {
  const auto at = std::ranges::find(manifest_.tensors, name, &PackTensor::name);
  return at == manifest_.tensors.end() ? nullptr : &*at;
}

std::vector<std::byte> PackFile::piece(const PackRegion& region, std::uint64_t index) const {
  const std::uint64_t begin = index * manifest_.piece_bytes;
  std::vector<std::byte> bytes(std::min(manifest_.piece_bytes, region.bytes - begin));
  file_.read(manifest_.data_start + region.offset + begin, bytes);
  return bytes;
}

std::string PackFile::problem_of(const PackRegion& region, std::uint64_t index,
                                 std::span<const std::byte> bytes) const {
  if (hash64(text_of(bytes)) == region.checks[index]) return "";
  const std::uint64_t begin = index * manifest_.piece_bytes;
  const std::uint64_t in_file = manifest_.data_start + region.offset + begin;
  return fmt::format("bytes {} to {} are damaged (bytes {} to {} of the file)", begin, begin + bytes.size() - 1,
                     in_file, in_file + bytes.size() - 1);
}

void PackFile::read(const PackRegion& region, std::uint64_t offset, std::span<std::byte> out) const {
  if (offset > region.bytes || out.size() > region.bytes - offset)
    fail(ErrorKind::bad_data, "bytes {} to {} of {}", offset, offset + out.size(), region.bytes);
  while (!out.empty()) {
    const std::uint64_t index = offset / manifest_.piece_bytes;
    const std::vector<std::byte> bytes = piece(region, index);
    if (const std::string problem = problem_of(region, index, bytes); !problem.empty())
      fail(ErrorKind::bad_data, "{}", problem);
    const std::uint64_t begin = offset - index * manifest_.piece_bytes;
    const std::uint64_t count = std::min<std::uint64_t>(bytes.size() - begin, out.size());
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(begin), count, out.begin());
    out = out.subspan(count);
    offset += count;
  }
}

std::vector<std::byte> PackFile::read(const PackRegion& region) const {
  std::vector<std::byte> bytes(checked_cast<std::size_t>(region.bytes));
  read(region, 0, bytes);
  return bytes;
}

std::vector<std::string> PackFile::damage(const PackRegion& region) const {
  std::vector<std::string> problems;
  Hasher hasher;
  for (std::uint64_t index = 0; index < region.checks.size(); ++index) {
    const std::vector<std::byte> bytes = piece(region, index);
    hasher.add(bytes);
    if (std::string problem = problem_of(region, index, bytes); !problem.empty())
      problems.push_back(std::move(problem));
  }
  if (problems.empty() && hasher.hex() != region.hash)
    problems.push_back("the hash of all its bytes is not the one that the manifest has");
  return problems;
}

std::vector<std::string> PackFile::padding_damage() const {
  std::vector<std::string> problems;
  std::uint64_t end = 0;
  const auto look = [&](const PackRegion& region) {
    std::vector<std::byte> gap(region.offset - end);
    file_.read(manifest_.data_start + end, gap);
    if (std::ranges::any_of(gap, [](std::byte b) { return b != std::byte{0}; }))
      problems.push_back(fmt::format("bytes {} to {} of the file belong to nothing and are not zero",
                                     manifest_.data_start + end, manifest_.data_start + region.offset - 1));
    end = region.offset + region.bytes;
  };
  for (const PackedFile& kept : manifest_.files) look(kept.region);
  for (const PackTensor& tensor : manifest_.tensors) look(tensor.region);
  return problems;
}

}  // namespace adze
