#include "model/gpt2_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "base/checked.h"
#include "base/error.h"
#include "model/tensors.h"

namespace adze {
namespace {

constexpr std::string_view kPrefix = "transformer.";  // some files have it, others do not

/// Outside of blocks, with our names for it.
struct OuterName {
  std::string_view stored, module;
};
constexpr std::array kOuterNames = {OuterName{"wte", kEmbeddingModule}, OuterName{"wpe", kPositionsModule},
                                    OuterName{"ln_f", kFinalNormModule}};

struct NormName {
  std::string_view stored;
  NormSlot slot;
};
constexpr std::array kNormNames = {NormName{"ln_1", NormSlot::before_attention},
                                   NormName{"ln_2", NormSlot::before_ffn}};

/// A product of a block, [in x out], and the linears whose outputs its columns are.
struct ProductName {
  std::string_view stored;
  std::array<LinearSlot::Kind, 3> parts;
  std::size_t count;
};
constexpr std::array kProductNames = {ProductName{"attn.c_attn", {LinearSlot::q, LinearSlot::k, LinearSlot::v}, 3},
                                      ProductName{"attn.c_proj", {LinearSlot::o}, 1},
                                      ProductName{"mlp.c_fc", {LinearSlot::up}, 1},
                                      ProductName{"mlp.c_proj", {LinearSlot::down}, 1}};

/// The causal mask and what it is filled with.
constexpr std::array<std::string_view, 2> kBuffers = {".attn.bias", ".attn.masked_bias"};

std::string_view without_prefix(std::string_view name) {
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  return name;
}

/// How a tensor of ours lies in a stored one.
enum class Layout : std::uint8_t {
  same,        ///< its bytes, from `first` elements on
  transposed,  ///< columns from `first` on are its rows
  padded,      ///< behind `first` rows of zeros
};

struct Place {
  const TensorInfo* stored = nullptr;
  Layout layout = Layout::same;
  std::size_t first = 0;
};

struct Part {
  std::string name;
  std::vector<std::uint64_t> shape;
  Layout layout = Layout::same;
  std::size_t first = 0;
};

struct Meant {
  std::vector<std::uint64_t> shape;  ///< of the stored tensor; empty: whatever it is, it is checked later
  std::vector<Part> parts;
};

/// What becomes of each stored tensor, by its name without the prefix.
std::map<std::string, Meant, std::less<>> meant_tensors(const Architecture& a) {
  std::map<std::string, Meant, std::less<>> all;
  const auto rename = [&](std::string_view stored, std::string_view module) {
    for (const char* const suffix : {"weight", "bias"})
      all[fmt::format("{}.{}", stored, suffix)] = {{}, {{fmt::format("{}.{}", stored_name(a, module), suffix), {}}}};
  };
  for (const OuterName& outer : kOuterNames) rename(outer.stored, outer.module);
  const std::size_t offset = a.info().positions.offset;
  all["wpe.weight"] = {
      {a.max_positions, a.hidden},
      {{stored_name(a, kPositionsModule) + ".weight", {a.position_rows(), a.hidden}, Layout::padded, offset}}};
  for (std::size_t block = 0; block < a.layers; ++block) {
    for (const NormInfo& norm : a.info().norms)
      for (const NormName& name : kNormNames)
        if (name.slot == norm.slot) rename(fmt::format("h.{}.{}", block, name.stored), module_name(block, norm));
    for (const ProductName& product : kProductNames) {
      Meant weight, bias;
      std::size_t outputs = 0, inputs = 0;
      for (const LinearSlot::Kind kind : std::span(product.parts).first(product.count)) {
        const LinearInfo info = info_of(a, kind);
        const std::string name = stored_name(a, module_name(block, info));
        weight.parts.push_back({name + ".weight", {info.shape.rows, info.shape.cols}, Layout::transposed, outputs});
        bias.parts.push_back({name + ".bias", {info.shape.rows}, Layout::same, outputs});
        outputs += info.shape.rows;
        inputs = info.shape.cols;
      }
      weight.shape = {inputs, outputs};
      bias.shape = {outputs};
      const std::string stored = fmt::format("h.{}.{}.", block, product.stored);
      all[stored + "weight"] = std::move(weight);
      all[stored + "bias"] = std::move(bias);
    }
  }
  return all;
}

class Gpt2Source final : public TensorSource {
 public:
  Gpt2Source(const Architecture& architecture, std::shared_ptr<const TensorSource> source)
      : source_(std::move(source)) {
    const auto meant = meant_tensors(architecture);
    std::map<std::string, std::pair<TensorInfo, Place>> found;  // in the order of names
    for (const TensorInfo& stored : source_->tensors()) {
      const std::string_view name = without_prefix(stored.name);
      if (is_buffer(name)) continue;
      const auto at = meant.find(name);
      if (at == meant.end())
        add(stored, {stored.name, stored.shape}, found);
      else
        add_all(stored, at->second, found);
    }
    for (auto& [name, tensor] : found) {
      tensors_.push_back(std::move(tensor.first));
      places_.push_back(tensor.second);
    }
  }

  std::span<const TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return source_->origin(); }

  void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override {
    check_range(tensor, offset, out.size());
    if (out.empty()) return;
    const Place& place = places_[index_of(tensor)];
    switch (place.layout) {
      case Layout::same:
        return source_->read(*place.stored, place.first * bytes_of(tensor.dtype) + offset, out);
      case Layout::padded:
        return read_padded(tensor, place, offset, out);
      case Layout::transposed:
        return read_transposed(index_of(tensor), offset, out);
    }
  }

  std::optional<FilePlace> place(const TensorInfo& tensor) const override {
    const Place& place = places_[index_of(tensor)];
    if (place.layout != Layout::same) return std::nullopt;
    std::optional<FilePlace> at = source_->place(*place.stored);
    if (at) at->offset += place.first * bytes_of(tensor.dtype);
    return at;
  }

 private:
  static bool is_buffer(std::string_view name) {
    return name.starts_with("h.") &&
           std::ranges::any_of(kBuffers, [&](std::string_view suffix) { return name.ends_with(suffix); });
  }

  void add(const TensorInfo& stored, const Part& part,
           std::map<std::string, std::pair<TensorInfo, Place>>& found) const {
    const std::vector<std::uint64_t>& shape = part.shape.empty() ? stored.shape : part.shape;
    const std::uint64_t bytes = checked_mul(checked_product(shape), bytes_of(stored.dtype));
    const bool is_new =
        found.insert({part.name, {{part.name, stored.dtype, shape, bytes}, {&stored, part.layout, part.first}}}).second;
    if (!is_new) fail(ErrorKind::bad_data, "{}: '{}' is there twice, under two names", source_->origin(), part.name);
  }

  void add_all(const TensorInfo& stored, const Meant& meant,
               std::map<std::string, std::pair<TensorInfo, Place>>& found) const {
    if (!meant.shape.empty() && stored.shape != meant.shape)
      fail(ErrorKind::bad_data, "{}: tensor '{}' has shape [{}], but config.json asks for [{}]", source_->origin(),
           stored.name, fmt::join(stored.shape, ", "), fmt::join(meant.shape, ", "));
    for (const Part& part : meant.parts) add(stored, part, found);
  }

  void read_padded(const TensorInfo& tensor, const Place& place, std::uint64_t offset, std::span<std::byte> out) const {
    const std::uint64_t padding = place.first * tensor.shape[1] * bytes_of(tensor.dtype);
    const auto zeros = static_cast<std::size_t>(offset < padding ? std::min(padding - offset, std::uint64_t{out.size()})
                                                                 : std::uint64_t{0});
    std::ranges::fill(out.first(zeros), std::byte{0});
    if (zeros < out.size()) source_->read(*place.stored, offset + zeros - padding, out.subspan(zeros));
  }

  /// Where a tensor is read in pieces, the last one stays.
  void read_transposed(std::size_t index, std::uint64_t offset, std::span<std::byte> out) const {
    const TensorInfo& tensor = tensors_[index];
    if (out.size() == tensor.bytes) return transpose(tensor, places_[index], out);
    const std::lock_guard lock(mutex_);
    if (last_ != index) {
      last_.reset();
      last_bytes_.resize(checked_cast<std::size_t>(tensor.bytes));
      transpose(tensor, places_[index], last_bytes_);
      last_ = index;
    }
    std::memcpy(out.data(), last_bytes_.data() + offset, out.size());
  }

  void transpose(const TensorInfo& tensor, const Place& place, std::span<std::byte> bytes) const {
    constexpr std::size_t kRowsAtOnce = 64;
    const auto rows = checked_cast<std::size_t>(tensor.shape[0]), cols = checked_cast<std::size_t>(tensor.shape[1]);
    const std::size_t width = bytes_of(tensor.dtype);
    const std::size_t row_bytes = checked_cast<std::size_t>(place.stored->shape[1]) * width;
    std::vector<std::byte> some;
    for (std::size_t first = 0; first < cols; first += kRowsAtOnce) {
      some.resize(std::min(kRowsAtOnce, cols - first) * row_bytes);
      source_->read(*place.stored, std::uint64_t{first} * row_bytes, some);
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < some.size() / row_bytes; ++c)
          std::memcpy(&bytes[(r * cols + first + c) * width], &some[c * row_bytes + (place.first + r) * width], width);
    }
  }

  std::shared_ptr<const TensorSource> source_;
  std::vector<TensorInfo> tensors_;
  std::vector<Place> places_;  ///< parallel to tensors_
  mutable std::mutex mutex_;
  mutable std::optional<std::size_t> last_;
  mutable std::vector<std::byte> last_bytes_;
};

}  // namespace

bool has_gpt2_names(const TensorSource& source) {
  return std::ranges::any_of(source.tensors(), [](const TensorInfo& tensor) {
    return without_prefix(tensor.name).starts_with("h.") && tensor.name.ends_with(".attn.c_attn.weight");
  });
}

std::shared_ptr<const TensorSource> gpt2_source(const Architecture& architecture,
                                                std::shared_ptr<const TensorSource> source) {
  return std::make_shared<Gpt2Source>(architecture, std::move(source));
}

}  // namespace adze
