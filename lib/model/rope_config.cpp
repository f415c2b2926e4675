#include "model/rope_config.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/words.h"

namespace adze {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kPartKey = "partial_rotary_factor";
constexpr double kMaxTheta = 1e12;
constexpr double kMaxFactor = 1e6;
constexpr double kMaxDivisor = 1e12;  // as theta, whose powers it may have to turn into others
constexpr double kMaxContext = static_cast<double>(std::size_t{1} << 31);

struct RopeName {
  std::string_view name;
  RopeKind kind;
};
constexpr std::array kRopeNames = {RopeName{"default", RopeKind::none},  RopeName{"linear", RopeKind::linear},
                                   RopeName{"llama3", RopeKind::llama3}, RopeName{"longrope", RopeKind::longrope},
                                   RopeName{"su", RopeKind::longrope},   RopeName{"yarn", RopeKind::yarn}};

RopeKind parse_rope_kind(const ConfigObject& rope) {
  const std::string name = rope.text_or("rope_type", rope.text_or("type", "default"));
  std::vector<std::string> known;
  for (const RopeName& row : kRopeNames) {
    if (row.name == name) return row.kind;
    known.emplace_back(row.name);
  }
  fail(ErrorKind::bad_data, "{}: RoPE type '{}' is not supported{}; known: {}", rope.origin(), name,
       suggestion(name, known), join_words(known));
}

/// config: the whole of config.json, where Phi-3 has the original context.
void parse_longrope(const ConfigObject& rope, const ConfigObject& config, std::size_t max_positions, RopeSpec& spec) {
  constexpr std::string_view kOriginal = "original_max_position_embeddings";
  spec.divisors = rope.numbers("short_factor");
  if (std::vector<double> beyond = rope.numbers("long_factor"); beyond != spec.divisors)
    spec.long_divisors = std::move(beyond);
  const bool in_config = config.find(kOriginal) != nullptr;
  const std::size_t original = in_config ? config.size(kOriginal) : rope.size_or(kOriginal, max_positions);
  if (original == 0) rope.wrong(kOriginal, "above 0", 0);
  const double ratio = static_cast<double>(max_positions) / static_cast<double>(original);
  const double factor = in_config ? ratio : rope.number_or("factor", ratio);
  spec.attention_factor = rope.number_or("attention_factor", longrope_attention_factor(factor, original));
  if (!spec.long_divisors.empty()) spec.original_max_positions = original;
}

/// mscale and mscale_all_dim are settings of DeepSeek's attention, which scales scores by the second a second time.
void parse_yarn(const ConfigObject& rope, std::size_t max_positions, RopeSpec& spec) {
  for (const char* const key : {"mscale", "mscale_all_dim"})
    if (rope.find(key)) fail(ErrorKind::bad_data, "{}: '{}' of yarn is not supported", rope.origin(), key);
  if (const Json* truncate = rope.find("truncate"); truncate && *truncate != true)
    rope.wrong("truncate", "true: whole pairs only", *truncate);
  spec.original_max_positions = rope.size_or("original_max_position_embeddings", max_positions);
  spec.beta_fast = rope.number_or("beta_fast", spec.beta_fast);
  spec.beta_slow = rope.number_or("beta_slow", spec.beta_slow);
  spec.attention_factor = rope.number_or("attention_factor", yarn_attention_factor(spec.factor));
}

RopeSpec parse_one(const ConfigObject& rope, const ConfigObject& config, double theta, std::size_t max_positions) {
  RopeSpec spec;
  spec.kind = parse_rope_kind(rope);
  spec.theta = rope.number_or("rope_theta", theta);
  if (spec.kind == RopeKind::longrope) {
    parse_longrope(rope, config, max_positions, spec);
    return spec;
  }
  if (spec.kind != RopeKind::none) spec.factor = rope.number("factor");
  if (spec.kind == RopeKind::yarn) parse_yarn(rope, max_positions, spec);
  if (spec.kind != RopeKind::llama3) return spec;
  spec.low_freq_factor = rope.number("low_freq_factor");
  spec.high_freq_factor = rope.number("high_freq_factor");
  spec.original_max_positions = rope.size("original_max_position_embeddings");
  return spec;
}

}  // namespace

double yarn_attention_factor(double factor) { return factor > 1 ? 0.1 * std::log(factor) + 1.0 : 1.0; }

double longrope_attention_factor(double factor, std::size_t original_max_positions) {
  if (factor <= 1 || original_max_positions < 2) return 1.0;
  return std::sqrt(1.0 + std::log(factor) / std::log(static_cast<double>(original_max_positions)));
}

RopePair parse_rope(const ConfigObject& config, const FamilyInfo& family, std::size_t max_positions) {
  const double theta = config.number_or("rope_theta", family.rope_theta);
  RopePair pair{RopeSpec{.theta = theta}, std::nullopt, config.number_or(kPartKey, 1.0)};
  const std::string_view theta_key = family.window.theta_key;
  if (!theta_key.empty()) pair.sliding = RopeSpec{.theta = config.number_or(theta_key, family.window.theta)};
  const std::string_view key = config.find("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const Json* object = config.find(key);
  if (!object) return pair;
  const std::string place = fmt::format("{}: {}", config.origin(), key);
  const ConfigObject rope(*object, place);
  const Json *full = rope.find(kFullAttention), *sliding = rope.find(kSlidingAttention);
  if (!full && !sliding) {
    pair.rope = parse_one(rope, config, theta, max_positions);
    pair.rotated = rope.number_or(kPartKey, pair.rotated);
    return pair;
  }
  const auto parse_part = [&](const Json& part, std::string_view name, double otherwise) {
    const std::string where = fmt::format("{}: {}", place, name);
    const ConfigObject set(part, where);
    if (const double rotated = set.number_or(kPartKey, pair.rotated); rotated != pair.rotated)
      fail(ErrorKind::bad_data, "{}: partial_rotary_factor {} is not supported, only {} as elsewhere", where, rotated,
           pair.rotated);
    return parse_one(set, config, otherwise, max_positions);
  };
  if (full) pair.rope = parse_part(*full, kFullAttention, theta);
  if (sliding) pair.sliding = parse_part(*sliding, kSlidingAttention, pair.sliding ? pair.sliding->theta : theta);
  return pair;
}

void check_rope(const RopeSpec& rope, std::size_t pairs, std::string_view origin) {
  check_range(origin, "rope_theta", rope.theta, 1.0, kMaxTheta);
  check_range(origin, "RoPE factor", rope.factor, 0.0, kMaxFactor);
  if (rope.kind == RopeKind::longrope && rope.divisors.size() != pairs)
    fail(ErrorKind::bad_data, "{}: {} RoPE factors for {} pairs of a head", origin, rope.divisors.size(), pairs);
  if (!rope.long_divisors.empty() && rope.long_divisors.size() != pairs)
    fail(ErrorKind::bad_data, "{}: {} RoPE factors for long contexts and {} pairs of a head", origin,
         rope.long_divisors.size(), pairs);
  for (const std::vector<double>* const divisors : {&rope.divisors, &rope.long_divisors})
    for (const double divisor : *divisors) check_range(origin, "RoPE factor", divisor, 0.0, kMaxDivisor);
  check_range(origin, "attention_factor", rope.attention_factor, 0.0, kMaxFactor);
  if (rope.kind == RopeKind::yarn) {
    check_range(origin, "beta_slow", rope.beta_slow, 0.0, kMaxFactor);
    check_range(origin, "beta_fast", rope.beta_fast, rope.beta_slow, kMaxFactor);
  }
  if (rope.kind == RopeKind::llama3) {
    check_range(origin, "low_freq_factor", rope.low_freq_factor, 0.0, kMaxFactor);
    check_range(origin, "high_freq_factor", rope.high_freq_factor, rope.low_freq_factor, kMaxFactor);
  }
  if (rope.kind == RopeKind::yarn || rope.kind == RopeKind::llama3 || !rope.long_divisors.empty())
    check_range(origin, "original_max_position_embeddings", static_cast<double>(rope.original_max_positions), 0.0,
                kMaxContext);
}

double partial_rotary_factor(const Architecture& a) {
  const auto head_dim = static_cast<double>(a.head_dim), rotated = static_cast<double>(a.rotated());
  double part = rotated / head_dim;
  if (part * head_dim < rotated) part = std::nextafter(part, 2.0);  // a product below is rounded down
  return part;
}

nlohmann::ordered_json rope_scaling(const Architecture& architecture) {
  const RopeSpec& rope = architecture.rope;
  switch (rope.kind) {
    case RopeKind::none:
      return nullptr;
    case RopeKind::linear:
      return {{"rope_type", "linear"}, {"factor", rope.factor}};
    case RopeKind::llama3:
      return {{"rope_type", "llama3"},
              {"factor", rope.factor},
              {"low_freq_factor", rope.low_freq_factor},
              {"high_freq_factor", rope.high_freq_factor},
              {"original_max_position_embeddings", rope.original_max_positions}};
    case RopeKind::longrope: {
      const bool is_one = rope.long_divisors.empty();
      return {{"rope_type", "longrope"},
              {"factor", 1.0},
              {"attention_factor", rope.attention_factor},
              {"original_max_position_embeddings", is_one ? architecture.max_positions : rope.original_max_positions},
              {"short_factor", rope.divisors},
              {"long_factor", is_one ? rope.divisors : rope.long_divisors}};
    }
    case RopeKind::yarn:
      return {{"rope_type", "yarn"},
              {"factor", rope.factor},
              {"beta_fast", rope.beta_fast},
              {"beta_slow", rope.beta_slow},
              {"attention_factor", rope.attention_factor},
              {"original_max_position_embeddings", rope.original_max_positions}};
  }
  return nullptr;
}

}  // namespace adze
