#include "model/gguf_rules.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace adze {
namespace {

/// Models whose loader divides scores by the root of hidden / heads.
struct WideScores {
  std::string_view gguf_name;
  std::size_t layers;
};
constexpr std::array kWideScores = {WideScores{"gemma2", 46}, WideScores{"gemma3", 62}};

}  // namespace

const FamilyInfo& gguf_row(const Architecture& a) {
  const FamilyInfo& family = a.info();
  const bool has_factor = a.rope.kind == RopeKind::longrope && a.rope.attention_factor != 1;
  const bool is_usual = a.rotary_dim == 0 && a.rope.long_divisors.empty() && !has_factor;
  return is_usual || family.long_rope_class.empty() ? family : family_of(family.long_rope_class);
}

std::string_view gguf_norm_eps_key(const FamilyInfo& family) {
  return family.norm_kind == NormKind::layer ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
}

bool gguf_sees_all(const FamilyInfo& family, std::size_t layer) {
  return family.window.every > 0 && (layer + 1) % family.window.every == 0;
}

double gguf_score_scalar(const Architecture& a) {
  const bool wide = std::ranges::any_of(kWideScores, [&](const WideScores& row) {
    return row.gguf_name == a.info().gguf_name && row.layers == a.layers;
  });
  return static_cast<double>(wide && a.heads > 0 ? a.hidden / a.heads : a.head_dim);
}

double gguf_embedding_scale(const Architecture& a) {
  return a.info().scales_embedding ? std::sqrt(static_cast<float>(a.hidden)) : 1.0f;
}

}  // namespace adze
