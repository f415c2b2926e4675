// Blocks that another encoder wrote: unpacking and packing them again gives the same bytes. Needs files that are not
// part of the repository; they are read by a parser of this test alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "base/file.h"
#include "grid/format.h"
#include "grid/quantized_tensor.h"

namespace adze {
namespace {

/// Values one after the other, little-endian.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}

  template <class T>
  T get() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view take(std::size_t count) {
    if (count > bytes_.size() - at_) throw std::runtime_error("GGUF file ends early");
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }
  std::string_view text() { return take(get<std::uint64_t>()); }
  std::size_t at() const { return at_; }

 private:
  std::string_view bytes_;
  std::size_t at_ = 0;
};

void skip_value(Cursor& cursor, std::uint32_t type) {
  constexpr std::array<std::size_t, 13> kBytes{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  if (type == 8) {
    cursor.text();
  } else if (type == 9) {
    const auto element = cursor.get<std::uint32_t>();
    const auto count = cursor.get<std::uint64_t>();
    for (std::uint64_t i = 0; i < count; ++i) skip_value(cursor, element);
  } else {
    cursor.take(kBytes.at(type));
  }
}

struct Tensor {
  std::string name;
  Shape shape;
  std::uint32_t type;
  std::uint64_t offset;
};

/// Tensors of two dimensions, and where the data begin.
std::vector<Tensor> matrices(std::string_view file, std::size_t& data) {
  Cursor cursor(file);
  EXPECT_EQ(cursor.take(4), "GGUF");
  cursor.get<std::uint32_t>();
  const auto tensors = cursor.get<std::uint64_t>();
  const auto keys = cursor.get<std::uint64_t>();
  for (std::uint64_t i = 0; i < keys; ++i) {
    cursor.text();
    skip_value(cursor, cursor.get<std::uint32_t>());
  }
  std::vector<Tensor> found;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    Tensor tensor{std::string(cursor.text()), {}, 0, 0};
    std::vector<std::uint64_t> dims(cursor.get<std::uint32_t>());
    for (std::uint64_t& dim : dims) dim = cursor.get<std::uint64_t>();
    tensor.type = cursor.get<std::uint32_t>();
    tensor.offset = cursor.get<std::uint64_t>();
    if (dims.size() != 2) continue;
    tensor.shape = {dims[1], dims[0]};
    found.push_back(tensor);
  }
  data = (cursor.at() + 31) / 32 * 32;
  return found;
}

const std::map<std::uint32_t, const char*> kGrids{
    {2, "gguf/q4_0"},  {6, "gguf/q5_0"},  {8, "gguf/q8_0"},  {10, "gguf/q2_k"},   {11, "gguf/q3_k"},
    {12, "gguf/q4_k"}, {13, "gguf/q5_k"}, {14, "gguf/q6_k"}, {20, "gguf/iq4_nl"}, {23, "gguf/iq4_xs"}};

void expect_same_bytes(const QuantizedTensor& tensor) {
  const Grid& grid = tensor.grid();
  const std::size_t cols = tensor.shape().cols;
  std::vector<std::int16_t> codes(cols);
  std::vector<std::byte> side(grid.units(cols) * grid.side_bytes());
  std::vector<std::byte> packed(grid.row_bytes(cols));
  for (std::size_t r = 0; r < tensor.shape().rows; ++r) {
    grid.unpack_row(tensor.row(r), codes, side);
    grid.pack_row(codes, side, packed);
    ASSERT_EQ(std::memcmp(packed.data(), tensor.row(r).data(), packed.size()), 0) << "row " << r;
  }
}

TEST(Peers, EveryBlockIsPackedAgainToItsBytes) {
  const std::filesystem::path folder = std::filesystem::path(ADZE_SOURCE_DIR) / "../shared/peers";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there";
  std::set<std::string> seen;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".gguf") continue;
    SCOPED_TRACE(entry.path().filename());
    const std::string file = read_file(entry.path());
    std::size_t data = 0;
    for (const Tensor& tensor : matrices(file, data)) {
      const auto grid = kGrids.find(tensor.type);
      if (grid == kGrids.end() || !seen.insert(std::string(grid->second) + tensor.name).second) continue;
      SCOPED_TRACE(tensor.name);
      const std::uint64_t bytes = format_bytes(grid->second, tensor.shape);
      const std::string_view stored = std::string_view(file).substr(data + tensor.offset, bytes);
      std::vector<std::byte> payload(bytes);
      std::memcpy(payload.data(), stored.data(), stored.size());
      expect_same_bytes(QuantizedTensor(grid_from_name(grid->second), tensor.shape, std::move(payload)));
    }
  }
  EXPECT_GT(seen.size(), 20u);
}

}  // namespace
}  // namespace adze
