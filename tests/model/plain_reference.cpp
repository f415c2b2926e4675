#include "model/plain_reference.h"

#include <bit>
#include <cstring>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <map>
#include <numbers>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace adze::testing {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

std::string bytes_of_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Tensor {
  std::vector<std::size_t> shape;
  std::vector<double> values;
  bool used = false;
};

/// F32 and BF16, little-endian; a BF16 is the upper half of a F32.
std::vector<double> values_of(const std::string& dtype, std::string_view bytes) {
  if (dtype != "F32" && dtype != "BF16") throw std::runtime_error("dtype " + dtype);
  const std::size_t size = dtype == "F32" ? 4 : 2;
  std::vector<double> values;
  for (std::size_t at = 0; at < bytes.size(); at += size) {
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < size; ++i)
      bits |= std::uint32_t{static_cast<unsigned char>(bytes[at + i])} << (8 * (4 - size + i));
    values.push_back(std::bit_cast<float>(bits));
  }
  return values;
}

/// A number of config.json; null is as good as absent.
double number(const Json& object, const char* key, double otherwise) {
  const auto at = object.find(key);
  return at == object.end() || at->is_null() ? otherwise : at->get<double>();
}

std::size_t count(const Json& object, const char* key, std::size_t otherwise) {
  return static_cast<std::size_t>(number(object, key, static_cast<double>(otherwise)));
}

void add(const MatrixD& y, MatrixD& x) {
  for (std::size_t i = 0; i < x.values().size(); ++i) x.values()[i] += y.values()[i];
}

double silu(double x) { return x / (1 + std::exp(-x)); }

double gelu_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

/// c tanh(x / c), or x where there is no cap.
double capped(double x, double cap) { return cap == 0 ? x : cap * std::tanh(x / cap); }

/// Angles per position of the pairs of a head, and what cosines and sines are multiplied by.
struct Rope {
  std::vector<double> frequencies;
  double factor = 1;
};

Rope plain_rope(double theta, std::size_t head_dim) {
  Rope rope;
  for (std::size_t i = 0; i < head_dim / 2; ++i)
    rope.frequencies.push_back(std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
  return rope;
}

/// Llama 3.1: wavelengths above original / low are stretched by `factor`, those below original / high are not, and
/// between them the frequency is a mixture that is linear in original / wavelength.
void scale_llama3(const Json& scaling, Rope& rope) {
  const double factor = scaling.at("factor"), low = scaling.at("low_freq_factor"),
               high = scaling.at("high_freq_factor");
  const double original = scaling.at("original_max_position_embeddings");
  for (double& f : rope.frequencies) {
    const double wavelength = 2 * std::numbers::pi / f;
    if (wavelength > original / low) {
      f /= factor;
    } else if (wavelength >= original / high) {
      const double share = (original / wavelength - low) / (high - low);
      f = (1 - share) * f / factor + share * f;
    }
  }
}

/// YaRN (Peng et al. 2023, arXiv 2309.00071, section 3.2): pairs that turn more than beta_fast times in the original
/// context stay, those that turn less than beta_slow times are stretched, with a ramp over the index between them.
void scale_yarn(const Json& scaling, double theta, std::size_t head_dim, Rope& rope) {
  const double factor = scaling.at("factor"), original = scaling.at("original_max_position_embeddings");
  const auto dim = static_cast<double>(head_dim);
  const auto index_that_turns = [&](double turns) {
    return dim * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta));
  };
  const double first = std::max(std::floor(index_that_turns(number(scaling, "beta_fast", 32))), 0.0);
  double last = std::min(std::ceil(index_that_turns(number(scaling, "beta_slow", 1))), dim - 1);
  if (first == last) last += 0.001;
  for (std::size_t i = 0; i < rope.frequencies.size(); ++i) {
    const double stretched = std::clamp((static_cast<double>(i) - first) / (last - first), 0.0, 1.0);
    double& f = rope.frequencies[i];
    f = stretched * f / factor + (1 - stretched) * f;
  }
  rope.factor = number(scaling, "attention_factor", factor > 1 ? 0.1 * std::log(factor) + 1 : 1);
}

/// Linears of an FFN.
struct FfnNames {
  std::string gate, up, down;
};

/// One of the experts that a token goes to.
struct Share {
  std::size_t expert;
  double weight;  ///< of its output
};

class Reference {
 public:
  explicit Reference(const fs::path& folder, Mistake mistake = Mistake::none)
      : config_(Json::parse(bytes_of_file(folder / "config.json"))), mistake_(mistake) {
    read_tensors(bytes_of_file(folder / "model.safetensors"));
    family_ = config_.at("model_type").get<std::string>();
    if (!is_any_of({"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo2", "phi3", "mixtral",
                    "qwen2_moe", "qwen3_moe", "olmoe", "gpt2", "opt"}))
      throw std::runtime_error("model_type " + family_);
    gemma_ = is_any_of({"gemma", "gemma2", "gemma3_text"});
    if (is_any_of({"mixtral", "qwen2_moe", "qwen3_moe", "olmoe"}))
      experts_ = count(config_, family_ == "mixtral" ? "num_local_experts" : "num_experts", 0);
    gpt2_ = family_ == "gpt2";
    learned_ = gpt2_ || family_ == "opt";
    heads_ = count(config_, gpt2_ ? "n_head" : "num_attention_heads", 0);
    kv_heads_ = count(config_, "num_key_value_heads", heads_);
    head_dim_ = count(config_, "head_dim", count(config_, gpt2_ ? "n_embd" : "hidden_size", 0) / heads_);
  }

  MatrixD logits(std::span<const std::int32_t> ids) {
    const MatrixD x = final_norm(states(ids));
    const bool tied = config_.value("tie_word_embeddings", gemma_ || learned_);
    MatrixD out = linear(x, tied ? table_name() : "lm_head");
    const double cap = is_any_of({"gemma2", "gemma3_text"}) ? number(config_, "final_logit_softcapping", 0) : 0;
    for (double& logit : out.values()) logit = capped(logit, cap);
    for (const auto& [name, tensor] : tensors_)
      if (!tensor.used) throw std::runtime_error("a " + family_ + " model has no use for " + name);
    return out;
  }

  ReferenceRouting routing(std::span<const std::int32_t> ids) {
    states(ids);
    return routing_;
  }

 private:
  /// What comes out of the last layer.
  MatrixD states(std::span<const std::int32_t> ids) {
    tokens_ = ids.size();
    routing_.margins.assign(tokens_, std::numeric_limits<double>::infinity());
    routing_.tokens.assign(experts_, 0);
    MatrixD x = embedded(ids);
    const std::size_t layers = config_.at(gpt2_ ? "n_layer" : "num_hidden_layers");
    for (std::size_t i = 0; i < layers; ++i) learned_ ? run_layer_of_learned(i, x) : run_layer(i, x);
    return x;
  }

  std::string table_name() const {
    return gpt2_ ? "transformer.wte" : learned_ ? "model.decoder.embed_tokens" : "model.embed_tokens";
  }

  MatrixD final_norm(const MatrixD& x) {
    if (!learned_) return norm(x, "model.norm");
    return layer_norm(x, gpt2_ ? "transformer.ln_f" : "model.decoder.final_layer_norm");
  }

  /// LayerNorm (Ba et al. 2016, arXiv 1607.06450): less the mean, over the standard deviation, a gain and a bias.
  MatrixD layer_norm(const MatrixD& x, const std::string& module) {
    const std::vector<double>&weight = tensor(module + ".weight").values, &bias = tensor(module + ".bias").values;
    const auto size = static_cast<double>(x.cols());
    if (weight.size() != x.cols() || bias.size() != x.cols()) throw std::runtime_error(module + " has another size");
    const double eps = gpt2_ ? number(config_, "layer_norm_epsilon", 1e-5) : 1e-5;
    MatrixD y(x.shape());
    for (std::size_t t = 0; t < x.rows(); ++t) {
      double mean = 0, variance = 0;
      for (std::size_t i = 0; i < x.cols(); ++i) mean += x(t, i) / size;
      for (std::size_t i = 0; i < x.cols(); ++i) variance += (x(t, i) - mean) * (x(t, i) - mean) / size;
      for (std::size_t i = 0; i < x.cols(); ++i) {
        const double centred = mistake_ == Mistake::mean_kept ? x(t, i) : x(t, i) - mean;
        y(t, i) = centred / std::sqrt(variance + eps) * weight[i];
        if (mistake_ != Mistake::no_norm_bias) y(t, i) += bias[i];
      }
    }
    return y;
  }

  /// GPT-2's products have their weights the other way round: y = x W + b.
  MatrixD conv1d(const MatrixD& x, const std::string& module, bool transposed = true) {
    const Tensor &weight = tensor(module + ".weight"), &bias = tensor(module + ".bias");
    const std::size_t in = weight.shape.at(0), out = weight.shape.at(1);
    if (in != x.cols() || bias.values.size() != out) throw std::runtime_error(module + " has another shape");
    MatrixD y(x.rows(), out);
    for (std::size_t t = 0; t < x.rows(); ++t)
      for (std::size_t o = 0; o < out; ++o) {
        double sum = bias.values[o];
        for (std::size_t i = 0; i < in; ++i)
          sum += (transposed ? weight.values[i * out + o] : weight.values[o * in + i]) * x(t, i);
        y(t, o) = sum;
      }
    return y;
  }

  /// A block of GPT-2 or OPT: x += attention(norm(x)), x += down(activation(up(norm(x)))).
  void run_layer_of_learned(std::size_t layer, MatrixD& x) {
    const std::string number = std::to_string(layer);
    const std::string block = gpt2_ ? "transformer.h." + number + "." : "model.decoder.layers." + number + ".";
    add(attention_of_learned(layer_norm(x, block + (gpt2_ ? "ln_1" : "self_attn_layer_norm")), block, layer), x);
    const MatrixD normed = layer_norm(x, block + (gpt2_ ? "ln_2" : "final_layer_norm"));
    MatrixD hidden = gpt2_ ? conv1d(normed, block + "mlp.c_fc") : linear(normed, block + "fc1");
    const std::string activation = config_.value("activation_function", gpt2_ ? "gelu_new" : "relu");
    for (double& value : hidden.values()) value = activation == "relu" ? std::max(value, 0.0) : gelu_tanh(value);
    add(gpt2_ ? conv1d(hidden, block + "mlp.c_proj") : linear(hidden, block + "fc2"), x);
  }

  MatrixD attention_of_learned(const MatrixD& x, const std::string& block, std::size_t layer) {
    const std::size_t width = heads_ * head_dim_;
    std::vector<MatrixD> qkv;
    if (gpt2_) {
      const MatrixD all = conv1d(x, block + "attn.c_attn");
      for (std::size_t i = 0; i < 3; ++i) qkv.push_back(columns(all, i * width, width));
    } else {
      for (const char* const name : {"q_proj", "k_proj", "v_proj"})
        qkv.push_back(linear(x, block + "self_attn." + name));
    }
    if (mistake_ == Mistake::qkv_reversed) std::ranges::reverse(qkv);
    MatrixD mix(x.rows(), width);
    for (std::size_t t = 0; t < x.rows(); ++t)
      for (std::size_t h = 0; h < heads_; ++h) mix_head(qkv[0], qkv[1], qkv[2], layer, t, h, mix);
    if (gpt2_) return conv1d(mix, block + "attn.c_proj", mistake_ != Mistake::not_transposed);
    return linear(mix, block + "self_attn.out_proj");
  }

  /// The row of position 0 in the table of positions.
  std::size_t first_position() const {
    if (mistake_ == Mistake::positions_from_row_0) return gpt2_ ? 1 : 0;
    return gpt2_ ? 0 : 2;
  }

  void add_positions(MatrixD& x) {
    const Tensor& table = tensor(gpt2_ ? "transformer.wpe.weight" : "model.decoder.embed_positions.weight");
    if (mistake_ == Mistake::no_positions) return;
    for (std::size_t t = 0; t < x.rows(); ++t)
      for (std::size_t i = 0; i < x.cols(); ++i) x(t, i) += table.values.at((t + first_position()) * x.cols() + i);
  }

  bool is_any_of(std::initializer_list<const char*> families) const {
    return std::ranges::find(families, family_) != families.end();
  }

  void read_tensors(const std::string& file) {
    std::uint64_t header_bytes = 0;
    for (std::size_t i = 0; i < 8; ++i)
      header_bytes |= std::uint64_t{static_cast<unsigned char>(file.at(i))} << (8 * i);
    const Json header = Json::parse(file.substr(8, header_bytes));
    const std::string_view data = std::string_view(file).substr(8 + header_bytes);
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") continue;
      const std::size_t begin = entry.at("data_offsets").at(0), end = entry.at("data_offsets").at(1);
      tensors_[name] = {entry.at("shape").get<std::vector<std::size_t>>(),
                        values_of(entry.at("dtype").get<std::string>(), data.substr(begin, end - begin))};
    }
  }

  const Tensor& tensor(const std::string& name) {
    const auto at = tensors_.find(name);
    if (at == tensors_.end()) throw std::runtime_error("no tensor " + name);
    at->second.used = true;
    return at->second;
  }

  /// y = x W^T + b, with a bias where the checkpoint has one.
  MatrixD linear(const MatrixD& x, const std::string& module) {
    const Tensor& weight = tensor(module + ".weight");
    const std::size_t out = weight.shape.at(0), in = weight.shape.at(1);
    if (in != x.cols()) throw std::runtime_error(module + " has another shape");
    std::vector<double> bias(out);
    if (tensors_.contains(module + ".bias")) bias = tensor(module + ".bias").values;
    MatrixD y(x.rows(), out);
    for (std::size_t t = 0; t < x.rows(); ++t)
      for (std::size_t o = 0; o < out; ++o) {
        double sum = bias.at(o);
        for (std::size_t i = 0; i < in; ++i) sum += weight.values[o * in + i] * x(t, i);
        y(t, o) = sum;
      }
    return y;
  }

  static MatrixD columns(const MatrixD& x, std::size_t first, std::size_t width) {
    MatrixD part(x.rows(), width);
    for (std::size_t t = 0; t < x.rows(); ++t)
      for (std::size_t i = 0; i < width; ++i) part(t, i) = x(t, first + i);
    return part;
  }

  /// RMSNorm of every run of as many elements as the weight has: a row, or each head of it. Gemma's multiplies by 1 +
  /// w.
  MatrixD norm(const MatrixD& x, const std::string& module) {
    const std::vector<double>& weight = tensor(module + ".weight").values;
    const std::size_t size = weight.size();
    if (x.cols() % size != 0) throw std::runtime_error(module + " has another size");
    const bool is_large = is_any_of({"phi3", "olmo2", "mixtral", "olmoe"});
    const double eps = number(config_, "rms_norm_eps", is_large ? 1e-5 : 1e-6);
    MatrixD y(x.shape());
    for (std::size_t t = 0; t < x.rows(); ++t)
      for (std::size_t begin = 0; begin < x.cols(); begin += size) {
        double squares = 0;
        for (std::size_t i = 0; i < size; ++i) squares += x(t, begin + i) * x(t, begin + i);
        const double scale = 1 / std::sqrt(squares / static_cast<double>(size) + eps);
        for (std::size_t i = 0; i < size; ++i)
          y(t, begin + i) = x(t, begin + i) * scale * (gemma_ ? 1 + weight[i] : weight[i]);
      }
    return y;
  }

  MatrixD embedded(std::span<const std::int32_t> ids) {
    const Tensor& table = tensor(table_name() + ".weight");
    const std::size_t hidden = table.shape.at(1);
    MatrixD x(ids.size(), hidden);
    for (std::size_t t = 0; t < ids.size(); ++t)
      for (std::size_t i = 0; i < hidden; ++i) {
        x(t, i) = table.values.at(static_cast<std::size_t>(ids[t]) * hidden + i);
        if (gemma_) x(t, i) *= std::sqrt(static_cast<double>(hidden));
      }
    if (learned_) add_positions(x);
    return x;
  }

  /// Which tokens a layer sees: itself and the window - 1 before it; 0: all before it.
  std::size_t window(std::size_t layer) const {
    const std::size_t width = count(config_, "sliding_window", 0);
    if (is_any_of({"mistral", "phi3", "mixtral"})) return width;
    if (family_ == "qwen3_moe") return config_.value("use_sliding_window", false) ? width : 0;
    if (is_any_of({"qwen2", "qwen3", "qwen2_moe"})) {
      const bool slides =
          config_.value("use_sliding_window", false) && layer >= count(config_, "max_window_layers", 28);
      return slides ? width : 0;
    }
    return slides(layer) ? width : 0;
  }

  /// Of the families whose layers differ.
  bool slides(std::size_t layer) const {
    if (!is_any_of({"gemma2", "gemma3_text"})) return false;
    if (config_.contains("layer_types")) return config_.at("layer_types").at(layer) == "sliding_attention";
    if (family_ == "gemma2") return layer % 2 == 0;
    return (layer + 1) % count(config_, "sliding_window_pattern", 6) != 0;
  }

  Rope rope(std::size_t layer) const {
    if (family_ == "gemma3_text" && slides(layer))
      return plain_rope(number(config_, "rope_local_base_freq", 10000), head_dim_);
    const bool is_large = is_any_of({"gemma3_text", "mixtral"});
    const double theta = number(config_, "rope_theta", is_large ? 1e6 : 1e4);
    Rope rope = plain_rope(theta, rotated());
    if (!config_.contains("rope_scaling") || config_.at("rope_scaling").is_null()) return rope;
    const Json& scaling = config_.at("rope_scaling");
    const std::string kind = scaling.contains("rope_type") ? scaling.at("rope_type") : scaling.at("type");
    if (kind == "linear")
      for (double& f : rope.frequencies) f /= scaling.at("factor").get<double>();
    else if (kind == "llama3")
      scale_llama3(scaling, rope);
    else if (kind == "yarn")
      scale_yarn(scaling, theta, rotated(), rope);
    else if (kind == "longrope")
      scale_longrope(scaling, rope);
    else
      throw std::runtime_error("RoPE " + kind);
    return rope;
  }

  /// Phi-3: a list of divisors for texts within the original context, and another for longer ones (LongRoPE, arXiv
  /// 2402.13753).
  void scale_longrope(const Json& scaling, Rope& rope) const {
    const double original = config_.at("original_max_position_embeddings");
    const Json& divisors = scaling.at(static_cast<double>(tokens_) > original ? "long_factor" : "short_factor");
    for (std::size_t i = 0; i < rope.frequencies.size() && i < divisors.size(); ++i)
      rope.frequencies[i] /= divisors.at(i).get<double>();
    if (mistake_ == Mistake::none && divisors.size() != rope.frequencies.size())
      throw std::runtime_error("another number of factors than of pairs");
    const double factor = config_.at("max_position_embeddings").get<double>() / original;
    rope.factor = std::sqrt(1 + std::log(factor) / std::log(original));
  }

  /// How many elements of a head turn, from the first on: all but in Phi-4-mini.
  std::size_t rotated() const {
    if (mistake_ == Mistake::rotated_whole) return head_dim_;
    return static_cast<std::size_t>(number(config_, "partial_rotary_factor", 1) * static_cast<double>(head_dim_));
  }

  /// The two elements of a head that pair i consists of.
  std::pair<std::size_t, std::size_t> pair_of(std::size_t i) const {
    if (mistake_ == Mistake::halves_of_the_head) return {i, i + head_dim_ / 2};
    if (mistake_ == Mistake::neighbours_turn) return {2 * i, 2 * i + 1};
    const std::size_t first = mistake_ == Mistake::last_elements_turn ? head_dim_ - rotated() : 0;
    return {first + i, first + i + rotated() / 2};
  }

  /// Pairs of every head turn by position times frequency.
  void rotate(const Rope& rope, MatrixD& x) const {
    for (std::size_t t = 0; t < x.rows(); ++t)
      for (std::size_t head = 0; head < x.cols(); head += head_dim_)
        for (std::size_t i = 0; i < rope.frequencies.size(); ++i) {
          const double angle = static_cast<double>(t) * rope.frequencies[i];
          const double cosine = rope.factor * std::cos(angle), sine = rope.factor * std::sin(angle);
          const auto [low, high] = pair_of(i);
          const double a = x(t, head + low), b = x(t, head + high);
          x(t, head + low) = a * cosine - b * sine;
          x(t, head + high) = b * cosine + a * sine;
        }
  }

  MatrixD attention(const MatrixD& x, std::size_t layer) {
    const std::string module = "model.layers." + std::to_string(layer) + ".self_attn.";
    const std::size_t q_width = heads_ * head_dim_, kv_width = kv_heads_ * head_dim_;
    const bool fused = family_ == "phi3";
    const MatrixD all = fused ? linear(x, module + "qkv_proj") : MatrixD();
    MatrixD q = fused ? columns(all, 0, q_width) : linear(x, module + "q_proj");
    MatrixD k = fused ? columns(all, q_width, kv_width) : linear(x, module + "k_proj");
    const MatrixD v = fused ? columns(all, q_width + kv_width, kv_width) : linear(x, module + "v_proj");
    if (is_any_of({"qwen3", "qwen3_moe", "gemma3_text", "olmo2", "olmoe"})) {  // of each head, in OLMo of all together
      q = norm(q, module + "q_norm");
      k = norm(k, module + "k_norm");
    }
    rotate(rope(layer), q);
    rotate(rope(layer), k);
    MatrixD mix(x.rows(), heads_ * head_dim_);
    for (std::size_t t = 0; t < x.rows(); ++t)
      for (std::size_t h = 0; h < heads_; ++h) mix_head(q, k, v, layer, t, h, mix);
    return linear(mix, module + "o_proj");
  }

  /// What token t takes of the tokens it sees, at head h.
  void mix_head(const MatrixD& q, const MatrixD& k, const MatrixD& v, std::size_t layer, std::size_t t, std::size_t h,
                MatrixD& mix) const {
    const auto dim = static_cast<double>(head_dim_);
    const bool has_settings = is_any_of({"gemma2", "gemma3_text"});
    const double scale = 1 / std::sqrt(has_settings ? number(config_, "query_pre_attn_scalar", dim) : dim);
    const double cap = has_settings ? number(config_, "attn_logit_softcapping", 0) : 0;
    const std::size_t width = window(layer);
    const std::size_t begin = width > 0 && t + 1 > width ? t + 1 - width : 0;
    const std::size_t from = h * head_dim_, group = h / (heads_ / kv_heads_) * head_dim_;
    std::vector<double> weights;
    double sum = 0;
    for (std::size_t s = begin; s <= t; ++s) {
      double score = 0;
      for (std::size_t i = 0; i < head_dim_; ++i) score += q(t, from + i) * k(s, group + i);
      weights.push_back(std::exp(capped(score * scale, cap)));  // far from where double overflows
      sum += weights.back();
    }
    for (std::size_t s = begin; s <= t; ++s)
      for (std::size_t i = 0; i < head_dim_; ++i) mix(t, from + i) += weights[s - begin] / sum * v(s, group + i);
  }

  MatrixD mlp(const MatrixD& x, std::size_t layer) {
    const std::string module = "model.layers." + std::to_string(layer) + ".mlp.";
    const bool fused = family_ == "phi3";
    const MatrixD both = fused ? linear(x, module + "gate_up_proj") : MatrixD();
    const MatrixD gate = fused ? columns(both, 0, both.cols() / 2) : linear(x, module + "gate_proj");
    MatrixD up = fused ? columns(both, both.cols() / 2, both.cols() / 2) : linear(x, module + "up_proj");
    return gated(gate, std::move(up), module + "down_proj");
  }

  MatrixD gated(const MatrixD& gate, MatrixD up, const std::string& down) {
    for (std::size_t i = 0; i < up.values().size(); ++i)
      up.values()[i] *= gemma_ ? gelu_tanh(gate.values()[i]) : silu(gate.values()[i]);
    return linear(up, down);
  }

  MatrixD ffn(const MatrixD& x, const FfnNames& names) {
    return gated(linear(x, names.gate), linear(x, names.up), names.down);
  }

  /// Experts of a sparse layer: softmax of the router's logits, the experts of the largest few, and the sum of their
  /// outputs, weighted by the softmax (Shazeer et al. 2017, arXiv 1701.06538; Mixtral, arXiv 2401.04088).
  MatrixD mixture(const MatrixD& x, std::size_t layer) {
    const std::string module =
        "model.layers." + std::to_string(layer) + (family_ == "mixtral" ? ".block_sparse_moe." : ".mlp.");
    std::vector<FfnNames> experts;
    for (std::size_t e = 0; e < experts_; ++e) experts.push_back(expert_names(module, e));
    for (const FfnNames& names : experts)  // those that no token chooses are of use, too
      for (const std::string& name : {names.gate, names.up, names.down}) tensor(name + ".weight");
    const MatrixD scores = linear(x, module + "gate");
    if (scores.cols() != experts_) throw std::runtime_error(module + "gate has another number of experts");
    MatrixD out(x.shape());
    for (std::size_t t = 0; t < x.rows(); ++t)
      for (const Share& share : shares_of(scores.row(t), t)) {
        const MatrixD made = ffn(row_of(x, t), experts[share.expert]);
        for (std::size_t i = 0; i < x.cols(); ++i) out(t, i) += share.weight * made(0, i);
      }
    if (family_ == "qwen2_moe") add_shared_expert(x, module, out);
    return out;
  }

  FfnNames expert_names(const std::string& module, std::size_t expert) const {
    const std::size_t other = mistake_ == Mistake::experts_swapped && expert < 2 ? 1 - expert : expert;
    const std::string one = module + "experts." + std::to_string(other) + ".";
    const bool mixtral = family_ == "mixtral";
    FfnNames names = {one + (mixtral ? "w1" : "gate_proj"), one + (mixtral ? "w3" : "up_proj"),
                      one + (mixtral ? "w2" : "down_proj")};
    if (mistake_ == Mistake::gate_up_swapped) std::swap(names.gate, names.up);
    return names;
  }

  std::size_t experts_per_token() const {
    const std::size_t stated = config_.at("num_experts_per_tok");
    if (mistake_ == Mistake::one_expert_more) return stated + 1;
    return mistake_ == Mistake::one_expert_fewer ? stated - 1 : stated;
  }

  /// Weights of a token's experts sum to 1: in Mixtral always, in others where config.json says so.
  bool renormalises() const {
    const bool says = family_ == "mixtral" || config_.value("norm_topk_prob", false);
    return says != (mistake_ == Mistake::other_normalisation);
  }

  /// The experts of token t, those of the largest scores first.  scores: logits of the router.
  std::vector<Share> shares_of(std::span<const double> scores, std::size_t t) {
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, std::ranges::greater(), [&](std::size_t e) { return scores[e]; });
    const std::size_t chosen = experts_per_token();
    if (chosen < 1 || chosen > scores.size()) throw std::runtime_error("experts per token");
    double all = 0, kept = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
      const double part = std::exp(scores[order[i]]);  // far from where double overflows
      all += part;
      if (i < chosen) kept += part;
    }
    std::vector<Share> shares;
    for (std::size_t i = 0; i < chosen; ++i) {
      const std::size_t expert = mistake_ == Mistake::router_reversed ? scores.size() - 1 - order[i] : order[i];
      shares.push_back({expert, std::exp(scores[order[i]]) / (renormalises() ? kept : all)});
      ++routing_.tokens[expert];
    }
    if (chosen < order.size())
      routing_.margins[t] = std::min(routing_.margins[t], scores[order[chosen - 1]] - scores[order[chosen]]);
    return shares;
  }

  static MatrixD row_of(const MatrixD& x, std::size_t t) {
    MatrixD row(1, x.cols());
    for (std::size_t i = 0; i < x.cols(); ++i) row(0, i) = x(t, i);
    return row;
  }

  /// Qwen2-MoE: what all tokens go through, times a sigmoid of one product with the token.
  void add_shared_expert(const MatrixD& x, const std::string& module, MatrixD& out) {
    const std::string one = module + "shared_expert.";
    const MatrixD gate = linear(x, module + "shared_expert_gate");
    const MatrixD made = ffn(x, {one + "gate_proj", one + "up_proj", one + "down_proj"});
    for (std::size_t t = 0; t < x.rows(); ++t)
      for (std::size_t i = 0; i < x.cols(); ++i) out(t, i) += share_of_shared(gate(t, 0)) * made(t, i);
  }

  double share_of_shared(double gate) const {
    if (mistake_ == Mistake::no_shared_expert) return 0;
    if (mistake_ == Mistake::no_shared_gate) return 1;
    return mistake_ == Mistake::no_sigmoid ? gate : 1 / (1 + std::exp(-gate));
  }

  void run_layer(std::size_t layer, MatrixD& x) {
    const std::string module = "model.layers." + std::to_string(layer) + ".";
    if (family_ == "olmo2") {
      add(norm(attention(x, layer), module + "post_attention_layernorm"), x);
      add(norm(mlp(x, layer), module + "post_feedforward_layernorm"), x);
    } else if (is_any_of({"gemma2", "gemma3_text"})) {
      const MatrixD mixed = attention(norm(x, module + "input_layernorm"), layer);
      add(norm(mixed, module + "post_attention_layernorm"), x);
      const MatrixD made = mlp(norm(x, module + "pre_feedforward_layernorm"), layer);
      add(norm(made, module + "post_feedforward_layernorm"), x);
    } else {
      add(attention(norm(x, module + "input_layernorm"), layer), x);
      const MatrixD normed = norm(x, module + "post_attention_layernorm");
      add(experts_ > 0 ? mixture(normed, layer) : mlp(normed, layer), x);
    }
  }

  Json config_;
  Mistake mistake_;
  std::map<std::string, Tensor> tensors_;
  std::string family_;
  bool gemma_ = false;
  bool gpt2_ = false;
  bool learned_ = false;  // GPT-2 and OPT: learned positions, LayerNorm, no gate
  std::size_t heads_ = 0, kv_heads_ = 0, head_dim_ = 0, tokens_ = 0;
  std::size_t experts_ = 0;  // 0: layers have one FFN
  ReferenceRouting routing_;
};

}  // namespace

MatrixD reference_logits(const fs::path& folder, std::span<const std::int32_t> ids, Mistake mistake) {
  return Reference(folder, mistake).logits(ids);
}

ReferenceRouting reference_routing(const fs::path& folder, std::span<const std::int32_t> ids) {
  return Reference(folder).routing(ids);
}

}  // namespace adze::testing
