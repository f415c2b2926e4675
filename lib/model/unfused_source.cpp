#include "model/unfused_source.h"

#include <algorithm>
#include <array>
#include <set>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "model/gpt2_source.h"
#include "model/multimodal.h"
#include "model/rope_config.h"
#include "model/tensors.h"

namespace adze {
namespace {

/// A stored tensor and the linears that lie in it, from the first row on.
struct FusedTensor {
  std::string name;  ///< inside the block
  std::vector<LinearInfo> parts;
  std::vector<std::uint64_t> shape;
};

FusedTensor fused_rows(const Architecture& a, std::string name, std::initializer_list<LinearSlot::Kind> kinds) {
  FusedTensor fused{std::move(name), {}, {}};
  std::uint64_t rows = 0;
  for (const LinearSlot::Kind kind : kinds) {
    fused.parts.push_back(info_of(a, kind));
    rows += fused.parts.back().shape.rows;
  }
  fused.shape = {rows, fused.parts.front().shape.cols};
  return fused;
}

/// The experts of a block one after the other, as Transformers 5 has them in memory.
FusedTensor fused_experts(const Architecture& a, std::string_view name, std::initializer_list<LinearSlot::Kind> kinds) {
  FusedTensor fused{fmt::format("{}.{}", a.info().mixture.experts, name), {}, {}};
  std::uint64_t rows = 0;
  for (std::size_t expert = 0; expert < a.experts; ++expert) {
    rows = 0;
    for (const LinearSlot::Kind kind : kinds) {
      fused.parts.push_back(info_of(a, LinearSlot(kind, expert)));
      rows += fused.parts.back().shape.rows;
    }
  }
  fused.shape = {a.experts, rows, fused.parts.front().shape.cols};
  return fused;
}

std::vector<FusedTensor> fused_tensors(const Architecture& a) {
  std::vector<FusedTensor> fused{
      fused_rows(a, "self_attn.qkv_proj.weight", {LinearSlot::q, LinearSlot::k, LinearSlot::v})};
  if (a.is_mixture()) {
    fused.push_back(fused_experts(a, "gate_up_proj", {LinearSlot::gate, LinearSlot::up}));
    fused.push_back(fused_experts(a, "down_proj", {LinearSlot::down}));
  } else if (a.info().is_gated()) {
    fused.push_back(fused_rows(a, "mlp.gate_up_proj.weight", {LinearSlot::gate, LinearSlot::up}));
  }
  return fused;
}

class UnfusedSource final : public TensorSource {
 public:
  UnfusedSource(const Architecture& architecture, std::shared_ptr<const TensorSource> source)
      : source_(std::move(source)) {
    std::vector<Part> parts;
    std::set<const TensorInfo*> fused;
    const std::vector<FusedTensor> known = fused_tensors(architecture);
    for (std::size_t block = 0; block < architecture.layers; ++block)
      for (const FusedTensor& tensor : known)
        if (const TensorInfo* const stored =
                source_->find(stored_name(architecture, fmt::format("layers.{}.{}", block, tensor.name)))) {
          add_parts(architecture, block, tensor, *stored, parts);
          fused.insert(stored);
        }
    for (const TensorInfo& tensor : source_->tensors())
      if (!fused.contains(&tensor)) parts.push_back({tensor, &tensor, 0});
    std::ranges::sort(parts, {}, [](const Part& part) -> const std::string& { return part.info.name; });
    for (Part& part : parts) {
      if (!tensors_.empty() && tensors_.back().name == part.info.name)
        fail(ErrorKind::bad_data, "{}: '{}' is there twice, alone and in a fused tensor", source_->origin(),
             part.info.name);
      tensors_.push_back(part.info);
      places_.push_back({part.stored, part.offset});
    }
  }

  std::span<const TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return source_->origin(); }
  void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override {
    check_range(tensor, offset, out.size());
    const Place& place = places_[index_of(tensor)];
    source_->read(*place.stored, place.offset + offset, out);
  }
  std::optional<FilePlace> place(const TensorInfo& tensor) const override {
    const Place& place = places_[index_of(tensor)];
    std::optional<FilePlace> at = source_->place(*place.stored);
    if (at) at->offset += place.offset;
    return at;
  }

 private:
  struct Place {
    const TensorInfo* stored;
    std::uint64_t offset;
  };
  struct Part {
    TensorInfo info;
    const TensorInfo* stored;
    std::uint64_t offset;
  };

  void add_parts(const Architecture& architecture, std::size_t block, const FusedTensor& fused,
                 const TensorInfo& stored, std::vector<Part>& parts) const {
    if (stored.shape != fused.shape)
      fail(ErrorKind::bad_data, "{}: tensor '{}' has shape [{}], but config.json asks for [{}]", source_->origin(),
           stored.name, fmt::join(stored.shape, ", "), fmt::join(fused.shape, ", "));
    std::uint64_t offset = 0;
    for (const LinearInfo& part : fused.parts) {
      const std::uint64_t bytes = part.shape.count() * bytes_of(stored.dtype);
      parts.push_back({{stored_name(architecture, module_name(block, part)) + ".weight",
                        stored.dtype,
                        {part.shape.rows, part.shape.cols},
                        bytes},
                       &stored,
                       offset});
      offset += bytes;
    }
  }

  std::shared_ptr<const TensorSource> source_;
  std::vector<TensorInfo> tensors_;
  std::vector<Place> places_;  ///< parallel to tensors_
};

/// The family with fused matrices that config.json names, by its class or else its type; nullptr: another one.
const FamilyInfo* fused_family(const nlohmann::json& config) {
  if (!config.is_object()) return nullptr;
  const auto classes = config.find("architectures");
  const bool by_class = classes != config.end() && !classes->is_null();
  for (const FamilyInfo& family : families()) {
    if (family.read_as.empty()) continue;
    const bool named = by_class ? *classes == nlohmann::json::array({family.hf_class})
                                : config.contains("model_type") && config["model_type"] == family.model_type;
    if (named) return &family;
  }
  return nullptr;
}

}  // namespace

namespace {

/// Sizes under the keys of the family that the model is read as.
void rename_sizes(const Architecture& a, const FamilyInfo& from, nlohmann::json& json) {
  const SizeKeys &old = from.sizes, &keys = a.info().sizes;
  const struct {
    std::string_view before, after;
    std::size_t size;
  } sizes[] = {{old.hidden, keys.hidden, a.hidden},
               {old.ffn, keys.ffn, a.ffn},
               {old.layers, keys.layers, a.layers},
               {old.heads, keys.heads, a.heads},
               {old.positions, keys.positions, a.max_positions}};
  for (const auto& size : sizes) {
    if (size.before != size.after) json.erase(std::string(size.before));
    if (size.before != size.after || size.after == keys.positions) json[std::string(size.after)] = size.size;
  }
  const std::string_view equal = a.info().equal_to_hidden_key;
  if (!equal.empty()) json[std::string(equal)] = a.hidden;
}

}  // namespace

std::string unfused_config(const std::string& text, const std::string& origin) {
  const nlohmann::json whole = parse_json(text, origin);
  const nlohmann::json config = is_multimodal(whole) ? language_config(whole, origin) : whole;
  const FamilyInfo* const family = fused_family(config);
  if (family == nullptr) return is_multimodal(whole) ? config.dump(2) + "\n" : text;
  const Architecture architecture = parse_architecture(config, origin);
  const FamilyInfo& apart = architecture.info();
  nlohmann::json json = config;
  json["architectures"] = {apart.hf_class};
  json["model_type"] = apart.model_type;
  json.erase("auto_map");  // code of the other family
  if (!apart.window.key.empty() && !json.contains(apart.window.key)) json[std::string(apart.window.key)] = nullptr;
  rename_sizes(architecture, *family, json);
  for (const FixedFlag& fixed : family->fixed_flags) json.erase(std::string(fixed.key));
  for (const FixedFlag& fixed : apart.fixed_flags) json[std::string(fixed.key)] = fixed.value;
  if (family->norm_eps_key != apart.norm_eps_key)
    json.erase(std::string(family->norm_eps_key));
  else
    json[std::string(apart.norm_eps_key)] = architecture.norm_eps;
  // Where the defaults of the two families differ, and where the old key is another one.
  if (family->activation != apart.activation || family->activation_key != apart.activation_key)
    json[std::string(apart.activation_key)] = name_of(architecture.activation);
  // In the words that all families have for it.
  if (architecture.rope.kind == RopeKind::longrope && json.contains("rope_scaling"))
    json["rope_scaling"] = rope_scaling(architecture);
  return json.dump(2) + "\n";
}

std::shared_ptr<const TensorSource> unfused_source(const Architecture& architecture,
                                                   std::shared_ptr<const TensorSource> source) {
  source = language_source(std::move(source));
  if (architecture.learns_positions() && has_gpt2_names(*source)) return gpt2_source(architecture, std::move(source));
  const std::vector<FusedTensor> known = fused_tensors(architecture);
  const bool is_fused = std::ranges::any_of(source->tensors(), [&](const TensorInfo& tensor) {
    return std::ranges::any_of(known,
                               [&](const FusedTensor& fused) { return tensor.name.ends_with("." + fused.name); });
  });
  return is_fused ? std::make_shared<UnfusedSource>(architecture, std::move(source)) : std::move(source);
}

}  // namespace adze
