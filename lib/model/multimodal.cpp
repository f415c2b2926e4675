#include "model/multimodal.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/words.h"
#include "model/family.h"

namespace adze {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kTextKey = "text_config";

/// A class of text and images.
struct WholeModel {
  std::string_view hf_class;
  std::string_view model_type;
  std::string_view text_type;  ///< model_type of its text_config where that says none
};
constexpr std::array kWholeModels = {WholeModel{"Gemma3ForConditionalGeneration", "gemma3", "gemma3_text"},
                                     WholeModel{"LlavaForConditionalGeneration", "llava", "llama"},
                                     WholeModel{"LlavaNextForConditionalGeneration", "llava_next", "llama"},
                                     WholeModel{"Mistral3ForConditionalGeneration", "mistral3", "mistral"}};

/// Sizes of the configuration classes of Transformers: a text_config is written without what is as in them.
struct DefaultSize {
  std::string_view hf_class;
  const char* key;
  std::size_t value;
};
constexpr std::array kDefaultSizes = {DefaultSize{"Gemma3ForCausalLM", "vocab_size", 262208},
                                      DefaultSize{"Gemma3ForCausalLM", "hidden_size", 2304},
                                      DefaultSize{"Gemma3ForCausalLM", "intermediate_size", 9216},
                                      DefaultSize{"Gemma3ForCausalLM", "num_hidden_layers", 26},
                                      DefaultSize{"Gemma3ForCausalLM", "num_attention_heads", 8},
                                      DefaultSize{"Gemma3ForCausalLM", "num_key_value_heads", 4},
                                      DefaultSize{"Gemma3ForCausalLM", "head_dim", 256},
                                      DefaultSize{"LlamaForCausalLM", "vocab_size", 32000},
                                      DefaultSize{"LlamaForCausalLM", "hidden_size", 4096},
                                      DefaultSize{"LlamaForCausalLM", "intermediate_size", 11008},
                                      DefaultSize{"LlamaForCausalLM", "num_hidden_layers", 32},
                                      DefaultSize{"LlamaForCausalLM", "num_attention_heads", 32},
                                      DefaultSize{"MistralForCausalLM", "vocab_size", 32000},
                                      DefaultSize{"MistralForCausalLM", "hidden_size", 4096},
                                      DefaultSize{"MistralForCausalLM", "intermediate_size", 14336},
                                      DefaultSize{"MistralForCausalLM", "num_hidden_layers", 32},
                                      DefaultSize{"MistralForCausalLM", "num_attention_heads", 32},
                                      DefaultSize{"MistralForCausalLM", "num_key_value_heads", 8}};

/// What the whole model says of its text where text_config does not.
constexpr std::array kSharedKeys = {"bos_token_id", "dtype",       "eos_token_id",
                                    "pad_token_id", "torch_dtype", "transformers_version"};
constexpr const char* kTiedKey = "tie_word_embeddings";

/// Names of the language model's tensors, as Transformers wrote them up to 4.51 and since.
struct Prefix {
  std::string_view stored, text;
};
constexpr std::array kPrefixes = {Prefix{"language_model.model.", "model."},
                                  Prefix{"language_model.lm_head.", "lm_head."},
                                  Prefix{"model.language_model.", "model."}};

/// Parts beside it, with "model." in front or without.
constexpr std::array<std::string_view, 3> kTowers = {"vision_tower", "multi_modal_projector", "image_newline"};

const WholeModel* find_whole_model(const Json& config) {
  if (!config.is_object()) return nullptr;
  const auto classes = config.find("architectures");
  const bool by_class = classes != config.end() && !classes->is_null();
  for (const WholeModel& whole : kWholeModels)
    if (by_class ? *classes == Json::array({whole.hf_class})
                 : config.contains("model_type") && config["model_type"] == whole.model_type)
      return &whole;
  return nullptr;
}

const FamilyInfo& text_family(const Json& text, const WholeModel& whole, std::string_view origin) {
  const auto stated = text.find("model_type");
  const bool is_stated = stated != text.end() && stated->is_string();
  const std::string type = is_stated ? stated->get<std::string>() : std::string(whole.text_type);
  std::vector<std::string> known;
  for (const FamilyInfo& family : families()) {
    if (family.model_type == type) return family;
    known.emplace_back(family.model_type);
  }
  fail(ErrorKind::bad_data, "{}: {}: model_type '{}' is not supported{}; known: {}", origin, kTextKey, type,
       suggestion(type, known), join_words(known));
}

/// The name in a checkpoint of text; nothing for a tensor that has no prefix.
std::optional<std::string> text_name(std::string_view stored) {
  for (const Prefix& prefix : kPrefixes)
    if (stored.starts_with(prefix.stored)) return fmt::format("{}{}", prefix.text, stored.substr(prefix.stored.size()));
  return std::nullopt;
}

/// The tower that a tensor is part of; "": none.
std::string_view tower_of(std::string_view stored) {
  constexpr std::string_view kRoot = "model.";
  if (stored.starts_with(kRoot)) stored.remove_prefix(kRoot.size());
  for (const std::string_view tower : kTowers)
    if (stored == tower || (stored.starts_with(tower) && stored[tower.size()] == '.')) return tower;
  return "";
}

class LanguageSource final : public TensorSource {
 public:
  explicit LanguageSource(std::shared_ptr<const TensorSource> source) : source_(std::move(source)) {
    std::map<std::string, const TensorInfo*> found;  // in the order of names
    for (const TensorInfo& stored : source_->tensors()) {
      if (!tower_of(stored.name).empty()) continue;
      const std::string name = text_name(stored.name).value_or(stored.name);
      if (!found.insert({name, &stored}).second)
        fail(ErrorKind::bad_data, "{}: '{}' is there twice, under two names", source_->origin(), name);
    }
    if (found.empty())
      fail(ErrorKind::bad_data,
           "{}: the language model is missing: there are {} and nothing else; its tensors are "
           "'language_model.model.*' or 'model.language_model.*'",
           source_->origin(), fmt::join(left_out_parts(*source_), " and "));
    for (const auto& [name, stored] : found) {
      tensors_.push_back(*stored);
      tensors_.back().name = name;
      stored_.push_back(stored);
    }
  }

  std::span<const TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return source_->origin(); }
  void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override {
    check_range(tensor, offset, out.size());
    source_->read(*stored_[index_of(tensor)], offset, out);
  }
  std::optional<FilePlace> place(const TensorInfo& tensor) const override {
    return source_->place(*stored_[index_of(tensor)]);
  }

 private:
  std::shared_ptr<const TensorSource> source_;
  std::vector<TensorInfo> tensors_;
  std::vector<const TensorInfo*> stored_;  ///< parallel to tensors_
};

}  // namespace

bool is_multimodal(const Json& config) { return find_whole_model(config) != nullptr; }

std::string multimodal_classes() {
  std::vector<std::string> names;
  for (const WholeModel& whole : kWholeModels) names.emplace_back(whole.hf_class);
  return join_words(names);
}

Json language_config(const Json& config, std::string_view origin) {
  const WholeModel* const whole = find_whole_model(config);
  if (whole == nullptr) fail(ErrorKind::internal, "{}: is no model of text and images", origin);
  const auto stated = config.find(kTextKey);
  if (stated == config.end() || !stated->is_object())
    fail(ErrorKind::bad_data, "{}: {} has no '{}' that is an object, which says what its language model is", origin,
         whole->hf_class, kTextKey);
  Json text = *stated;
  const FamilyInfo& family = text_family(text, *whole, origin);
  const auto is_silent = [&](const char* key) { return !text.contains(key) || text[key].is_null(); };
  text["architectures"] = {family.hf_class};
  text["model_type"] = family.model_type;
  for (const char* const key : kSharedKeys)
    if (is_silent(key) && config.contains(key)) text[key] = config[key];
  for (const DefaultSize& size : kDefaultSizes)
    if (size.hf_class == family.hf_class && is_silent(size.key)) text[size.key] = size.value;
  // Which of the two counts differs from version to version: where they contradict each other, the tensors decide.
  if (config.contains(kTiedKey) && is_silent(kTiedKey)) text[kTiedKey] = config[kTiedKey];
  if (config.contains(kTiedKey) && config[kTiedKey] != text[kTiedKey]) text.erase(kTiedKey);
  return text;
}

std::shared_ptr<const TensorSource> language_source(std::shared_ptr<const TensorSource> source) {
  const bool has_parts = std::ranges::any_of(source->tensors(), [](const TensorInfo& tensor) {
    return text_name(tensor.name).has_value() || !tower_of(tensor.name).empty();
  });
  return has_parts ? std::make_shared<LanguageSource>(std::move(source)) : std::move(source);
}

std::vector<std::string> left_out_parts(const TensorSource& source) {
  std::map<std::string_view, std::size_t> counts;
  for (const TensorInfo& tensor : source.tensors())
    if (const std::string_view tower = tower_of(tensor.name); !tower.empty()) ++counts[tower];
  std::vector<std::string> parts;
  for (const auto& [tower, count] : counts)
    parts.push_back(fmt::format("{} tensor{} of {}", count, count == 1 ? "" : "s", tower));
  return parts;
}

}  // namespace adze
