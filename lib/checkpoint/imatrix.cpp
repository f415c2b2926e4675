#include "checkpoint/imatrix.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/gguf_writer.h"
#include "checkpoint/imatrix_dat.h"

namespace adze {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::string_view kTypeKey = "general.type";
constexpr std::string_view kType = "imatrix";
constexpr std::string_view kSquares = ".in_sum2";
constexpr std::string_view kCounts = ".counts";
constexpr std::string_view kPlain = ".in_sum";

struct KindRow {
  std::string_view name;
  ImatrixKind kind;
};
constexpr std::array kEndings = {KindRow{".gguf", ImatrixKind::gguf}, KindRow{".dat", ImatrixKind::dat},
                                 KindRow{".imatrix", ImatrixKind::dat}};

bool is_gguf(const std::filesystem::path& path) {
  const InputFile file(path);
  std::string start(kMagic.size(), '\0');
  if (file.size() < start.size()) return false;
  file.read(0, std::as_writable_bytes(std::span(start)));
  return start == kMagic;
}

std::vector<float> read_floats(const GgufFile& file, const GgufTensor& tensor) {
  if (tensor.type->dtype != DType::f32 || tensor.dims.size() > 2)
    fail(ErrorKind::bad_data, "tensor '{}' has type {} and {} dimensions; F32 and at most 2 are expected", tensor.name,
         tensor.type->name, tensor.dims.size());
  std::vector<float> values(tensor.bytes / sizeof(float));
  file.read(tensor, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

const GgufTensor& require(const GgufFile& file, const std::string& name) {
  const GgufTensor* const tensor = file.find_tensor(name);
  if (tensor == nullptr) fail(ErrorKind::bad_data, "tensor '{}' is missing", name);
  return *tensor;
}

std::vector<std::uint64_t> two_dims(const GgufTensor& tensor) {
  std::vector<std::uint64_t> dims = tensor.dims;
  dims.resize(2, 1);
  return dims;
}

ImatrixEntry read_entry(const GgufFile& file, const GgufTensor& squares) {
  ImatrixEntry entry;
  entry.tensor = squares.name.substr(0, squares.name.size() - kSquares.size());
  const GgufTensor& counts = require(file, entry.tensor + std::string(kCounts));
  entry.sums = read_floats(file, squares);
  const std::vector<float> stored = read_floats(file, counts);
  entry.counts.assign(stored.begin(), stored.end());
  const std::vector<std::uint64_t> dims = two_dims(squares);
  if (two_dims(counts) != std::vector<std::uint64_t>{1, dims[1]})
    fail(ErrorKind::bad_data, "tensor '{}' has {} values, '{}' has {} rows", counts.name, stored.size(), squares.name,
         dims[1]);
  if (const GgufTensor* const plain = file.find_tensor(entry.tensor + std::string(kPlain))) {
    entry.plain_sums = read_floats(file, *plain);
    if (two_dims(*plain) != dims)
      fail(ErrorKind::bad_data, "tensor '{}' has another shape than '{}'", plain->name, squares.name);
  }
  return entry;
}

Imatrix read_gguf(const std::filesystem::path& path) {
  const GgufFile file(path);
  if (const auto* const type = file.find<std::string>(kTypeKey); type == nullptr || *type != kType)
    fail(ErrorKind::bad_data, "general.type is {}, not 'imatrix': this is no importance matrix",
         type ? "'" + *type + "'" : "not stated");
  if (file.split()) fail(ErrorKind::bad_data, "an importance matrix in several files is not supported");
  Imatrix imatrix;
  if (const auto* const datasets = file.find<std::vector<std::string>>("imatrix.datasets"))
    imatrix.datasets = *datasets;
  if (const auto* const chunks = file.find<std::uint32_t>("imatrix.chunk_count")) imatrix.chunks = *chunks;
  if (const auto* const tokens = file.find<std::uint32_t>("imatrix.chunk_size")) imatrix.chunk_tokens = *tokens;
  std::size_t used = 0;
  for (const GgufTensor& tensor : file.tensors())
    if (tensor.name.ends_with(kSquares)) {
      imatrix.entries.push_back(read_entry(file, tensor));
      used += imatrix.entries.back().plain_sums.empty() ? 2 : 3;
    }
  if (used != file.tensors().size())
    fail(ErrorKind::bad_data, "{} tensors that are not NAME.in_sum2 with their NAME.counts and NAME.in_sum",
         file.tensors().size() - used);
  return imatrix;
}

void write_gguf(const std::filesystem::path& path, const Imatrix& imatrix) {
  std::vector<GgufKeyValue> keys{{std::string(kTypeKey), std::string(kType)}};
  if (!imatrix.datasets.empty()) keys.push_back({"imatrix.datasets", imatrix.datasets});
  keys.push_back({"imatrix.chunk_count", imatrix.chunks});
  keys.push_back({"imatrix.chunk_size", imatrix.chunk_tokens});
  struct Data {
    GgufTensorSpec spec;
    std::vector<float> values;
  };
  std::vector<Data> data;
  for (const ImatrixEntry& entry : imatrix.entries) {
    const std::uint64_t cols = entry.cols(), matrices = entry.counts.size();
    const auto add = [&](std::string_view ending, std::uint64_t width, std::vector<float> values) {
      data.push_back({{entry.tensor + std::string(ending), 0, {width, matrices}}, std::move(values)});
    };
    add(kSquares, cols, entry.sums);
    if (!entry.plain_sums.empty()) add(kPlain, cols, entry.plain_sums);
    add(kCounts, 1, {entry.counts.begin(), entry.counts.end()});
  }
  std::vector<GgufTensorSpec> specs;
  for (const Data& tensor : data) specs.push_back(tensor.spec);
  GgufWriter writer(path, keys, specs);
  for (const Data& tensor : data) writer.write(tensor.spec.name, std::as_bytes(std::span(tensor.values)));
  writer.commit();
}

void check_entry(const ImatrixEntry& entry) {
  if (entry.tensor.empty() || entry.tensor.find('\0') != std::string::npos)
    fail(ErrorKind::bad_data, "the name of a tensor is empty or contains NUL");
  with_context(fmt::format("tensor '{}'", entry.tensor), [&] {
    if (entry.counts.empty() || entry.sums.empty() || entry.sums.size() % entry.counts.size() != 0)
      fail(ErrorKind::bad_data, "{} sums for {} matrices", entry.sums.size(), entry.counts.size());
    if (!entry.plain_sums.empty() && entry.plain_sums.size() != entry.sums.size())
      fail(ErrorKind::bad_data, "{} plain sums, {} sums of squares", entry.plain_sums.size(), entry.sums.size());
    const auto good = [](double value) { return std::isfinite(value) && value >= 0; };
    if (const auto at = std::ranges::find_if_not(entry.sums, good); at != entry.sums.end())
      fail(ErrorKind::bad_data, "a sum of squares is {} (element {})", *at, at - entry.sums.begin());
    if (const auto at = std::ranges::find_if_not(entry.counts, good); at != entry.counts.end())
      fail(ErrorKind::bad_data, "a count is {}", *at);
    if (!std::ranges::all_of(entry.plain_sums, [](float value) { return std::isfinite(value); }))
      fail(ErrorKind::bad_data, "a sum is not finite");
  });
}

void check(const Imatrix& imatrix) {
  if (imatrix.entries.empty()) fail(ErrorKind::bad_data, "an importance matrix without entries");
  for (const ImatrixEntry& entry : imatrix.entries) check_entry(entry);
  const auto twice = std::ranges::adjacent_find(imatrix.entries, {}, &ImatrixEntry::tensor);
  if (twice != imatrix.entries.end()) fail(ErrorKind::bad_data, "tensor '{}' is there twice", twice->tensor);
}

}  // namespace

std::vector<float> ImatrixEntry::means() const {
  std::vector<float> means(sums.size());
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const double count = counts[i / cols()];
    means[i] = count > 0 ? static_cast<float>(sums[i] / count) : 1.0f;
  }
  return means;
}

const ImatrixEntry* Imatrix::find(std::string_view tensor) const {
  const auto at = std::ranges::lower_bound(entries, tensor, {}, &ImatrixEntry::tensor);
  return at != entries.end() && at->tensor == tensor ? &*at : nullptr;
}

std::string_view name_of(ImatrixKind kind) { return kEndings[static_cast<std::size_t>(kind)].name; }

ImatrixKind imatrix_kind_of(const std::filesystem::path& path) {
  const auto* const row = std::ranges::find(kEndings, path.extension().string(), &KindRow::name);
  if (row == kEndings.end())
    fail(ErrorKind::usage, "{}: an importance matrix is a .gguf file, or a .dat file as older programs want it",
         path.string());
  return row->kind;
}

Imatrix read_imatrix(const std::filesystem::path& path, ImatrixKind* kind) {
  return with_context(path.string(), [&] {
    const bool gguf = is_gguf(path);
    if (kind != nullptr) *kind = gguf ? ImatrixKind::gguf : ImatrixKind::dat;
    Imatrix imatrix = gguf ? read_gguf(path) : parse_imatrix_dat(read_file(path));
    std::ranges::sort(imatrix.entries, {}, &ImatrixEntry::tensor);
    check(imatrix);
    return imatrix;
  });
}

bool is_imatrix(const std::filesystem::path& path) {
  try {
    if (is_gguf(path)) {
      const GgufFile file(path);
      const auto* const type = file.find<std::string>(kTypeKey);
      return type != nullptr && *type == kType;
    }
    read_imatrix(path);
    return true;
  } catch (const Error&) {
    return false;
  }
}

void write_imatrix(const std::filesystem::path& path, const Imatrix& imatrix, ImatrixKind kind) {
  with_context(path.string(), [&] {
    Imatrix sorted = imatrix;
    std::ranges::sort(sorted.entries, {}, &ImatrixEntry::tensor);
    check(sorted);
    if (kind == ImatrixKind::gguf) return write_gguf(path, sorted);
    write_file(path, imatrix_dat_bytes(sorted));
  });
}

}  // namespace adze
