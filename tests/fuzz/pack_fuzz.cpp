// Opens any bytes as a pack, with our reader and with the one in C; once as they are, and once with the checksums of
// header and records made right, so that what lies behind them is met, too. Whatever both can decode must have the same
// values. Deltas are opened with a base of zeros.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "base/hash.h"
#include "grid/format.h"
#include "memory_file.h"
#include "model/pack/pack_weights.h"
#include "pack_c/adze_pack.h"

namespace {

constexpr std::uint64_t kMostWeights = 1 << 16;  // a few bytes may say that a matrix is huge
constexpr std::size_t kHeader = 64, kFrame = 16;

template <typename T>
T read(const std::string& bytes, std::size_t at) {
  T value{};
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}
template <typename T>
void write(std::string& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

std::string repaired(std::string bytes) {
  if (bytes.size() < kHeader) return bytes;
  const std::uint64_t manifest = std::min<std::uint64_t>(read<std::uint64_t>(bytes, 16), bytes.size() - kHeader);
  const std::uint64_t end = kHeader + manifest;
  for (std::uint64_t at = kHeader; at + kFrame <= end;) {
    const auto length = std::min<std::uint64_t>(read<std::uint32_t>(bytes, at), end - at - kFrame);
    write(bytes, at, static_cast<std::uint32_t>(length));
    write(bytes, at + 4, static_cast<std::uint32_t>(adze::hash64(std::string_view(bytes).substr(at, 4))));
    write(bytes, at + 8, adze::hash64(std::string_view(bytes).substr(at + kFrame, length)));
    at += kFrame + length;
  }
  write(bytes, 16, manifest);
  write(bytes, 24, (end + 63) / 64 * 64);
  write(bytes, 32, std::uint64_t{bytes.size()});
  write(bytes, 56, adze::hash64(std::string_view(bytes).substr(0, 56)));
  return bytes;
}

std::vector<float> decoded(adze_matrix* matrix, std::uint64_t rows, std::uint64_t cols) {
  std::vector<float> values(rows * cols + 1), x(cols + 1, 1.0f), y(rows + 1);
  for (std::uint64_t r = 0; r < rows; ++r) adze_matrix_row(matrix, r, values.data() + r * cols);
  adze_matrix_multiply(matrix, x.data(), y.data());
  values.pop_back();
  return values;
}

/// Values of a tensor as our reader decodes its payload, checksums aside; empty when it does not.
std::vector<float> our_values(const std::string& format, adze::Shape shape, std::vector<std::byte> payload) {
  try {
    const auto tensor = adze::tensor_from_payload(format, shape, std::move(payload));
    const adze::MatrixF values = tensor->decode();
    return {values.values().begin(), values.values().end()};
  } catch (const adze::Error&) {
    return {};
  }
}

void run_c(const std::string& bytes) {
  adze_pack* const pack = adze_pack_open_memory(bytes.data(), bytes.size(), nullptr);
  if (pack == nullptr) return;
  for (std::size_t i = 0; i < adze_pack_tensor_count(pack); ++i) {
    const adze_pack_tensor& tensor = *adze_pack_get_tensor(pack, i);
    adze_pack_verify(pack, &tensor, nullptr);
    if (tensor.rows > kMostWeights || tensor.cols > kMostWeights || tensor.rows * tensor.cols > kMostWeights) continue;
    adze_matrix* const matrix = adze_matrix_prepare(pack, &tensor, nullptr);
    if (matrix == nullptr) continue;
    const std::vector<float> theirs = decoded(matrix, tensor.rows, tensor.cols);
    adze_matrix_free(matrix);
    const std::string format = tensor.format;
    const auto* const data = reinterpret_cast<const std::byte*>(tensor.data);
    const std::vector<float> ours =
        our_values(format, {tensor.rows, tensor.cols}, std::vector<std::byte>(data, data + tensor.bytes));
    if (ours.empty() || format.find('[') != std::string::npos) continue;  // sums of products: in another order
    for (std::size_t v = 0; v < ours.size(); ++v)
      if (ours[v] != theirs[v] && !(std::isnan(ours[v]) && std::isnan(theirs[v]))) std::abort();
  }
  adze_pack_close(pack);
}

/// The base of the deltas among the seeds: of any architecture, all zeros.
class Zeros final : public adze::TensorSource {
 public:
  explicit Zeros(const adze::Architecture& architecture) {
    for (const adze::TensorSpec& spec : adze::expected_tensors(architecture))
      tensors_.push_back({spec.hf_name, adze::DType::f32, spec.shape, 4 * adze::checked_product(spec.shape)});
    std::ranges::sort(tensors_, {}, &adze::TensorInfo::name);
  }
  std::span<const adze::TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return "zeros"; }
  void read(const adze::TensorInfo&, std::uint64_t, std::span<std::byte> out) const override {
    std::ranges::fill(out, std::byte{0});
  }

 private:
  std::vector<adze::TensorInfo> tensors_;
};

void add_to_base(const std::filesystem::path& path, const adze::PackManifest& manifest) {
  const adze::PackWeights model(path, {"zeros", manifest.architecture, std::make_shared<Zeros>(manifest.architecture)});
  if (model.architecture().layers > 0) model.block(0);
}

void run_ours(const std::string& bytes) {
  const adze::fuzz::MemoryFile memory(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  try {
    const adze::PackFile pack(memory.path());
    std::uint64_t end = 0;
    for (const adze::PackedFile& file : pack.manifest().files) {
      pack.damage(file.region);
      end = file.region.offset + file.region.bytes;
    }
    for (const adze::PackTensor& tensor : pack.manifest().tensors) {
      pack.damage(tensor.region);
      end = tensor.region.offset + tensor.region.bytes;
    }
    if (pack.manifest().data_start + end != bytes.size())
      std::abort();  // every byte belongs to one region or is padding
    if (pack.manifest().architecture.hidden > 256 || pack.manifest().architecture.ffn > 256) return;
    const adze::PackWeights model(memory.path());
    model.files();
    for (const adze::PackTensor& tensor : pack.manifest().tensors)
      if (pack.manifest().base && tensor.encoding != adze::PackEncoding::same) model.stored(tensor);
    if (pack.manifest().base) return add_to_base(memory.path(), pack.manifest());
    if (model.architecture().layers > 0) model.block(0);
    model.final_norm();
  } catch (const adze::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  for (const std::string& input : {bytes, repaired(bytes)}) {
    run_ours(input);
    run_c(input);
  }
  return 0;
}
