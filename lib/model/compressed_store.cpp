#include "model/compressed_store.h"

#include <array>
#include <exception>
#include <map>

#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "base/parallel.h"
#include "checkpoint/hdf5.h"
#include "checkpoint/sidecar.h"
#include "grid/factors/product_tensor.h"
#include "grid/format.h"
#include "grid/kept_tensor.h"

namespace adze {
namespace {

constexpr std::uint64_t kVersion = 1;
constexpr const char* kEmbedding = "embed_tokens";
constexpr const char* kPositions = "embed_positions";
constexpr const char* kHead = "lm_head";
constexpr const char* kFinalNorm = "norm";
constexpr const char* kCacheMaxima = "self_attn.cache_maxima";

void begin_file(Hdf5Writer& file, const char* kind) {
  file.set_attribute("/", "kind", std::string(kind));
  file.set_attribute("/", "version", kVersion);
}

void check_file(const Hdf5Reader& file, std::string_view kind) {
  if (file.text("/", "kind") != kind)
    fail(ErrorKind::bad_data, "{}: is a '{}', not a '{}'", file.path().string(), file.text("/", "kind"), kind);
  if (file.number("/", "version") != kVersion)
    fail(ErrorKind::bad_data, "{}: version {}, this program reads {}", file.path().string(),
         file.number("/", "version"), kVersion);
}

void write_matrix(Hdf5Writer& file, const std::string& name, const CompressedTensor& tensor) {
  file.make_group(name);
  file.set_attribute(name, "format", tensor.format());
  file.set_attribute(name, "rows", std::uint64_t{tensor.shape().rows});
  file.set_attribute(name, "cols", std::uint64_t{tensor.shape().cols});
  file.write<std::byte>(name + "/payload", tensor.payload());
}

/// Of a matrix, by what is said beside it.
std::uint64_t checked_bytes(const Hdf5Reader& file, const std::string& name, Shape expected) {
  const Shape shape{file.number(name, "rows"), file.number(name, "cols")};
  if (shape != expected)
    fail(ErrorKind::bad_data, "shape {} x {}, the architecture says {} x {}", shape.rows, shape.cols, expected.rows,
         expected.cols);
  return format_bytes(file.text(name, "format"), shape);
}

std::string place_of(const Hdf5Reader& file, const std::string& name) {
  return fmt::format("{}: tensor '{}'", file.path().string(), name);
}

TensorPtr read_matrix(const Hdf5Reader& file, const std::string& name, Shape expected,
                      const FindShared& find = nullptr) {
  return with_context(place_of(file, name), [&] {
    const std::uint64_t bytes = checked_bytes(file, name, expected);
    return tensor_from_payload(file.text(name, "format"), expected, file.read_array(name + "/payload", bytes), find);
  });
}

std::vector<float> read_vector(const Hdf5Reader& file, const std::string& name, std::size_t expected) {
  std::vector<float> values = file.read<float>(name, expected);
  if (values.size() != expected)
    fail(ErrorKind::bad_data, "{}: '{}' has {} values, the architecture says {}", file.path().string(), name,
         values.size(), expected);
  return values;
}

/// Of a tensor of a model whose architecture is not known, by its place in the block; its own name is an attribute.
std::string listed_name(std::size_t place) { return fmt::format("listed/{}", place); }

void write_listed(Hdf5Writer& file, std::span<const NamedTensor> tensors) {
  file.make_group("listed");
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::string name = listed_name(i);
    write_matrix(file, name, *tensors[i].tensor);
    file.set_attribute(name, "name", tensors[i].name);
  }
}

TensorPtr read_listed(const Hdf5Reader& file, const TensorSpec& spec) {
  const std::string name = listed_name(*spec.listed);
  if (file.text(name, "name") != spec.hf_name)
    fail(ErrorKind::bad_data, "{}: '{}' is tensor '{}', the list says '{}'", file.path().string(), name,
         file.text(name, "name"), spec.hf_name);
  if (spec.is_matrix())
    return read_matrix(file, name,
                       {checked_cast<std::size_t>(spec.shape[0]), checked_cast<std::size_t>(spec.shape[1])});
  const std::uint64_t bytes = checked_mul(checked_product(spec.shape), bytes_of(spec.dtype));
  std::vector<std::byte> payload = file.read<std::byte>(name + "/payload", bytes);
  if (payload.size() != bytes || file.text(name, "format") != name_of(spec.dtype))
    fail(ErrorKind::bad_data, "{}: tensor '{}' has {} bytes of {}, the list says {} of {}", file.path().string(),
         spec.hf_name, payload.size(), file.text(name, "format"), bytes, name_of(spec.dtype));
  return std::make_shared<KeptTensor>(spec.dtype, std::move(payload));
}

/// Of a norm, whose weight is a dataset and no group.
std::string bias_name(std::string_view norm) { return fmt::format("{}.bias", norm); }

/// "input_layernorm" of "layers.3.input_layernorm"; of a tensor of a list its place.
std::string name_in_block(const TensorSpec& spec) {
  if (spec.listed) return listed_name(*spec.listed);
  return spec.module.substr(spec.module.find('.', spec.module.find('.') + 1) + 1);
}

bool has_norm_biases(const Architecture& architecture) { return architecture.info().norm_kind == NormKind::layer; }

/// Only what the sidecar vouches for is given to the HDF5 library.
Hdf5Reader open_checked(const std::filesystem::path& path, std::string_view kind) {
  check_sidecar(path);
  Hdf5Reader file(path);
  check_file(file, kind);
  return file;
}

const StoreFile& file_named(const std::vector<StoreFile>& files, std::string_view name,
                            const std::filesystem::path& path) {
  for (const StoreFile& file : files)
    if (file.name == name) return file;
  fail(ErrorKind::bad_data, "{}: holds no {}", path.string(), name);
}

using BlockFile = std::shared_ptr<const Hdf5Reader>;

TensorPtr shared_factor_in(const Hdf5Reader& file, const LinearInfo& info, const SharedFormat& shared, Shape shape) {
  const TensorPtr owner = read_matrix(file, info.module, info.shape);  // shares nothing
  const auto* const product = dynamic_cast<const ProductTensor*>(owner.get());
  if (product == nullptr || product->right().format() != shared.format || product->right().shape() != shape)
    fail(ErrorKind::bad_data, "its factor is said to be that of {}, {} x {} in {}, which is stored as '{}'",
         shared.owner, shape.rows, shape.cols, shared.format, owner->format());
  return product->right_part();
}

/// Finds right factors that other blocks of the store hold. open: the file of a block.
FindShared find_shared(const Architecture& architecture, std::function<BlockFile(std::size_t block)> open) {
  return [&architecture, open = std::move(open)](const SharedFormat& shared, Shape shape) {
    for (std::size_t block = 0; block < architecture.layers; ++block)
      for (const LinearInfo& info : block_linears(architecture))
        if (module_name(block, info) == shared.owner) return shared_factor_in(*open(block), info, shared, shape);
    fail(ErrorKind::bad_data, "its factor is said to lie in '{}', which is no linear of this model", shared.owner);
  };
}

BlockFile open_block(const std::filesystem::path& path) {
  return std::make_shared<const Hdf5Reader>(open_checked(path, "adze block"));
}

}  // namespace

std::string block_file_name(std::size_t block) { return fmt::format("block-{:04}.h5", block); }

void write_block_file(const std::filesystem::path& path, const BlockWeights& block, const Architecture& architecture) {
  Hdf5Writer file(path);
  begin_file(file, "adze block");
  if (architecture.is_listed()) write_listed(file, block.listed);
  for (const NormInfo& info : architecture.info().norms) {
    file.write<float>(std::string(info.module), block[info.slot]);
    const std::vector<float>& bias = block.bias_of(info.slot);
    if (!bias.empty()) file.write<float>(bias_name(info.module), bias);
  }
  for (const LinearInfo& info : block_linears(architecture)) {
    write_matrix(file, info.module, *block[info.slot].weight);
    if (!block[info.slot].bias.empty()) file.write<float>(info.module + "/bias", block[info.slot].bias);
  }
  if (block.cache) file.write<float>(kCacheMaxima, std::array{block.cache->keys, block.cache->values});
  file.commit();
  write_sidecar(path);
}

OuterTensors outer_tensors(const ModelWeights& model) {
  return {model.embedding(), model.positions(), norm_of(model), model.architecture().tied ? nullptr : model.head()};
}

void write_outer_file(const std::filesystem::path& path, std::span<const StoreFile> files,
                      const OuterTensors& tensors) {
  Hdf5Writer file(path);
  begin_file(file, "adze model");
  file.make_group("files");
  for (const StoreFile& kept : files) file.write_bytes("files/" + kept.name, kept.text);
  if (tensors.embedding) write_matrix(file, kEmbedding, *tensors.embedding);
  if (tensors.positions) write_matrix(file, kPositions, *tensors.positions);
  if (tensors.head) write_matrix(file, kHead, *tensors.head);
  if (!tensors.norm.weight.empty()) file.write<float>(kFinalNorm, tensors.norm.weight);
  if (!tensors.norm.bias.empty()) file.write<float>(bias_name(kFinalNorm), tensors.norm.bias);
  file.commit();
  write_sidecar(path);
}

namespace {

std::optional<CacheMaxima> read_cache(const Hdf5Reader& file) {
  if (!file.has(kCacheMaxima)) return std::nullopt;
  const std::vector<float> maxima = read_vector(file, kCacheMaxima, 2);
  return CacheMaxima{maxima[0], maxima[1]};
}

BlockWeights read_block(const Hdf5Reader& file, const Architecture& architecture, std::size_t index,
                        const FindShared& find) {
  if (architecture.is_listed())
    return assemble_listed(architecture, index, [&](const TensorSpec& spec) { return read_listed(file, spec); });
  BlockWeights block = assemble_block(
      architecture, index,
      [&](const NormInfo& info, std::string_view suffix) {
        const std::string name = suffix == "bias" ? bias_name(info.module) : std::string(info.module);
        return read_vector(file, name, norm_size(architecture, info.slot));
      },
      [&](const LinearInfo& info) {
        Linear linear{read_matrix(file, info.module, info.shape, find), {}};
        if (info.has_bias) linear.bias = read_vector(file, info.module + "/bias", info.shape.rows);
        return linear;
      });
  block.cache = read_cache(file);
  return block;
}

/// Every block's file, checked on all threads. Throws what is wrong with the first that is.
std::map<std::size_t, BlockFile> open_blocks(const std::filesystem::path& folder, std::size_t layers) {
  std::vector<BlockFile> files(layers);
  std::vector<std::exception_ptr> problems(layers);
  parallel_for(layers, [&](std::size_t block) {
    try {
      files[block] = open_block(folder / block_file_name(block));
    } catch (...) {
      problems[block] = std::current_exception();
    }
  });
  std::map<std::size_t, BlockFile> all;
  for (std::size_t block = 0; block < layers; ++block) {
    if (problems[block]) std::rethrow_exception(problems[block]);
    all.emplace(block, std::move(files[block]));
  }
  return all;
}

}  // namespace

BlockWeights read_block_file(const std::filesystem::path& path, const Architecture& architecture, std::size_t index) {
  std::map<std::size_t, BlockFile> others;
  const auto open = [&](std::size_t block) {
    BlockFile& file = others[block];
    if (!file) file = open_block(path.parent_path() / block_file_name(block));
    return file;
  };
  return read_block(open_checked(path, "adze block"), architecture, index, find_shared(architecture, open));
}

CompressedStore::CompressedStore(std::filesystem::path folder)
    : folder_(std::move(folder)), shared_(find_shared(architecture_, [this](std::size_t b) { return block_file(b); })) {
  const std::filesystem::path path = folder_ / kOuterFileName;
  outer_file_ = std::make_shared<const Hdf5Reader>(open_checked(path, "adze model"));
  const Hdf5Reader& file = *outer_file_;
  for (const std::string& name : file.names("files"))
    files_.push_back({name, file.read_bytes("files/" + name, kMaxStoreFileBytes)});
  if (auto listed = listing_among(files_, path.string())) {
    architecture_ = std::move(*listed);
    return;
  }
  const std::string origin = path.string() + ": config.json";
  architecture_ = parse_architecture(parse_json(file_named(files_, "config.json", path).text, origin), origin);
  architecture_.tied = !file.has(kHead);
  const auto check = [&](const char* name, std::size_t rows) {
    with_context(place_of(file, name), [&] { checked_bytes(file, name, {rows, architecture_.hidden}); });
  };
  check(kEmbedding, architecture_.vocab);
  if (architecture_.learns_positions()) check(kPositions, architecture_.position_rows());
  if (!architecture_.tied) check(kHead, architecture_.vocab);
  norm_.weight = read_vector(file, kFinalNorm, architecture_.hidden);
  if (has_norm_biases(architecture_)) norm_.bias = read_vector(file, bias_name(kFinalNorm), architecture_.hidden);
}

TensorPtr CompressedStore::outer(std::string_view name, std::size_t rows) const {
  const std::lock_guard lock(outer_mutex_);
  std::weak_ptr<const CompressedTensor>& known = outer_matrices_[std::string(name)];
  TensorPtr matrix = known.lock();
  if (!matrix) known = matrix = read_matrix(*outer_file_, std::string(name), {rows, architecture_.hidden});
  return matrix;
}

TensorPtr CompressedStore::embedding() const {
  return architecture_.is_listed() ? nullptr : outer(kEmbedding, architecture_.vocab);
}

TensorPtr CompressedStore::positions() const {
  return architecture_.learns_positions() ? outer(kPositions, architecture_.position_rows()) : nullptr;
}

TensorPtr CompressedStore::head() const { return architecture_.tied ? embedding() : outer(kHead, architecture_.vocab); }

BlockFile CompressedStore::block_file(std::size_t index) const {
  {
    const std::lock_guard lock(mutex_);
    if (const auto at = block_files_.find(index); at != block_files_.end()) return at->second;
  }
  BlockFile file = open_block(folder_ / block_file_name(index));
  const std::lock_guard lock(mutex_);
  return block_files_.emplace(index, std::move(file)).first->second;
}

BlockWeights CompressedStore::block(std::size_t index) const {
  return read_block(*block_file(index), architecture_, index, shared_);
}

std::optional<std::string> CompressedStore::format_of(const TensorSpec& spec) const {
  if (!spec.is_matrix()) return std::nullopt;
  if (!spec.block) return outer_file_->text(spec.module, "format");
  {
    const std::lock_guard lock(mutex_);  // who asks for one format asks for all
    if (!block_files_.contains(*spec.block)) block_files_.merge(open_blocks(folder_, architecture_.layers));
  }
  return block_file(*spec.block)->text(name_in_block(spec), "format");
}

TensorPtr CompressedStore::matrix_in_block(const TensorSpec& spec) const {
  const BlockFile file = block_file(*spec.block);
  if (spec.listed) return read_listed(*file, spec);
  return read_matrix(*file, name_in_block(spec), spec.matrix_shape(), shared_);
}

std::vector<float> CompressedStore::vector_in_block(const TensorSpec& spec) const {
  const std::string name = name_in_block(spec);
  const std::string dataset = spec.role != TensorRole::bias ? name : spec.slot ? name + "/bias" : bias_name(name);
  return read_vector(*block_file(*spec.block), dataset, checked_cast<std::size_t>(spec.shape.front()));
}

std::optional<CacheMaxima> CompressedStore::cache_of(std::size_t block) const { return read_cache(*block_file(block)); }

}  // namespace adze
