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

TensorPtr read_matrix(const Hdf5Reader& file, const std::string& name, Shape expected,
                      const FindShared& find = nullptr) {
  return with_context(fmt::format("{}: tensor '{}'", file.path().string(), name), [&] {
    const Shape shape{file.number(name, "rows"), file.number(name, "cols")};
    if (shape != expected)
      fail(ErrorKind::bad_data, "shape {} x {}, the architecture says {} x {}", shape.rows, shape.cols, expected.rows,
           expected.cols);
    const std::string& format = file.text(name, "format");
    const std::uint64_t bytes = format_bytes(format, shape);
    ByteArray payload = dtype_from_name(format) ? file.read<std::byte>(name + "/payload", bytes)  // floats are a vector
                                                : file.read_array(name + "/payload", bytes);
    return tensor_from_payload(format, shape, std::move(payload), find);
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

/// Right factors that other blocks of the store hold; their files are opened once.
class SharedFactors {
 public:
  SharedFactors(std::filesystem::path folder, const Architecture& architecture)
      : folder_(std::move(folder)), architecture_(architecture) {}

  TensorPtr find(const SharedFormat& shared, Shape shape) {
    for (std::size_t block = 0; block < architecture_.layers; ++block)
      for (const LinearInfo& info : block_linears(architecture_))
        if (module_name(block, info) == shared.owner) return factor_of(block, info, shared, shape);
    fail(ErrorKind::bad_data, "its factor is said to lie in '{}', which is no linear of this model", shared.owner);
  }

 private:
  TensorPtr factor_of(std::size_t block, const LinearInfo& info, const SharedFormat& shared, Shape shape) {
    const TensorPtr owner = read_matrix(file_of(block), info.module, info.shape);  // shares nothing
    const auto* const product = dynamic_cast<const ProductTensor*>(owner.get());
    if (product == nullptr || product->right().format() != shared.format || product->right().shape() != shape)
      fail(ErrorKind::bad_data, "its factor is said to be that of {}, {} x {} in {}, which is stored as '{}'",
           shared.owner, shape.rows, shape.cols, shared.format, owner->format());
    return product->right_part();
  }

  const Hdf5Reader& file_of(std::size_t block) {
    auto at = files_.find(block);
    if (at == files_.end())
      at = files_.emplace(block, open_checked(folder_ / block_file_name(block), "adze block")).first;
    return at->second;
  }

  std::filesystem::path folder_;
  const Architecture& architecture_;
  std::map<std::size_t, Hdf5Reader> files_;
};

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

BlockWeights read_block(const Hdf5Reader& file, const Architecture& architecture, std::size_t index) {
  if (architecture.is_listed())
    return assemble_listed(architecture, index, [&](const TensorSpec& spec) { return read_listed(file, spec); });
  SharedFactors shared(file.path().parent_path(), architecture);
  const FindShared find = [&](const SharedFormat& format, Shape shape) { return shared.find(format, shape); };
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
std::map<std::size_t, std::shared_ptr<const Hdf5Reader>> open_blocks(const std::filesystem::path& folder,
                                                                     std::size_t layers) {
  std::vector<std::shared_ptr<const Hdf5Reader>> files(layers);
  std::vector<std::exception_ptr> problems(layers);
  parallel_for(layers, [&](std::size_t block) {
    try {
      files[block] = std::make_shared<const Hdf5Reader>(open_checked(folder / block_file_name(block), "adze block"));
    } catch (...) {
      problems[block] = std::current_exception();
    }
  });
  std::map<std::size_t, std::shared_ptr<const Hdf5Reader>> all;
  for (std::size_t block = 0; block < layers; ++block) {
    if (problems[block]) std::rethrow_exception(problems[block]);
    all.emplace(block, std::move(files[block]));
  }
  return all;
}

}  // namespace

BlockWeights read_block_file(const std::filesystem::path& path, const Architecture& architecture, std::size_t index) {
  return read_block(open_checked(path, "adze block"), architecture, index);
}

CompressedStore::CompressedStore(std::filesystem::path folder) : folder_(std::move(folder)) {
  const std::filesystem::path path = folder_ / kOuterFileName;
  const Hdf5Reader file = open_checked(path, "adze model");
  for (const std::string& name : file.names("files"))
    files_.push_back({name, file.read_bytes("files/" + name, kMaxStoreFileBytes)});
  if (auto listed = listing_among(files_, path.string())) {
    architecture_ = std::move(*listed);
    return;
  }
  const std::string origin = path.string() + ": config.json";
  architecture_ = parse_architecture(parse_json(file_named(files_, "config.json", path).text, origin), origin);
  architecture_.tied = !file.has(kHead);
  const Shape table{architecture_.vocab, architecture_.hidden};
  outer_.embedding = read_matrix(file, kEmbedding, table);
  if (architecture_.learns_positions())
    outer_.positions = read_matrix(file, kPositions, {architecture_.position_rows(), architecture_.hidden});
  outer_.head = architecture_.tied ? outer_.embedding : read_matrix(file, kHead, table);
  outer_.norm.weight = read_vector(file, kFinalNorm, architecture_.hidden);
  if (has_norm_biases(architecture_)) outer_.norm.bias = read_vector(file, bias_name(kFinalNorm), architecture_.hidden);
}

std::shared_ptr<const Hdf5Reader> CompressedStore::block_file(std::size_t index) const {
  {
    const std::lock_guard lock(mutex_);
    if (const auto at = block_files_.find(index); at != block_files_.end()) return at->second;
  }
  auto file = std::make_shared<const Hdf5Reader>(open_checked(folder_ / block_file_name(index), "adze block"));
  const std::lock_guard lock(mutex_);
  return block_files_.emplace(index, std::move(file)).first->second;
}

BlockWeights CompressedStore::block(std::size_t index) const {
  return read_block(*block_file(index), architecture_, index);
}

std::optional<std::string> CompressedStore::format_of(const TensorSpec& spec) const {
  if (spec.role == TensorRole::embedding) return outer_.embedding->format();
  if (spec.role == TensorRole::positions) return outer_.positions->format();
  if (spec.role == TensorRole::head) return outer_.head->format();
  if (!spec.is_matrix()) return std::nullopt;
  {
    const std::lock_guard lock(mutex_);  // who asks for one format asks for all
    if (!block_files_.contains(*spec.block)) block_files_.merge(open_blocks(folder_, architecture_.layers));
  }
  const std::shared_ptr<const Hdf5Reader> file = block_file(*spec.block);
  return file->text(spec.listed ? listed_name(*spec.listed) : info_of(architecture_, *spec.slot).module, "format");
}

std::optional<std::vector<float>> CompressedStore::vector_of(const TensorSpec& spec) const {
  if (!spec.block) return spec.role == TensorRole::bias ? outer_.norm.bias : outer_.norm.weight;
  const std::shared_ptr<const Hdf5Reader> file = block_file(*spec.block);
  const auto size = checked_cast<std::size_t>(spec.shape.front());
  if (spec.slot) return read_vector(*file, info_of(architecture_, *spec.slot).module + "/bias", size);
  // "input_layernorm" of "layers.3.input_layernorm"
  const std::string inside = spec.module.substr(spec.module.find('.', spec.module.find('.') + 1) + 1);
  return read_vector(*file, spec.role == TensorRole::bias ? bias_name(inside) : inside, size);
}

std::optional<CacheMaxima> CompressedStore::cache_of(std::size_t block) const { return read_cache(*block_file(block)); }

}  // namespace adze
