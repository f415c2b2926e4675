#include "transform/demands.h"

#include "base/error.h"

namespace adze {
namespace {

void require(bool met, const Architecture& architecture, std::string_view transform, std::string_view part) {
  if (!met)
    fail(ErrorKind::bad_recipe, "{}: {} has {}, which it does not fold into", transform, architecture.family, part);
}

}  // namespace

void require_readable_states(const Architecture& a, std::string_view transform) {
  require(a.has_norm(NormSlot::before_attention) && a.has_norm(NormSlot::before_ffn), a, transform,
          "no norm before attention and FFN");
  require(!a.has_norm(NormSlot::after_attention) && !a.has_norm(NormSlot::after_ffn), a, transform,
          "norms behind attention and FFN");
  // The mean of the channels is not that of turned ones, and a bias would have to turn with each reader.
  require(a.info().norm_kind == NormKind::rms, a, transform, "norms that subtract the mean, with biases");
}

void require_free_hidden_size(const Architecture& a, std::string_view transform) {
  require(a.embedding_scale == 1 && a.info().norm_offset == 0, a, transform,
          "an embedding whose scale follows from the hidden size");
}

void require_plain_heads(const Architecture& a, std::string_view transform) {
  require(!a.has_norm(NormSlot::queries) && !a.has_norm(NormSlot::keys), a, transform, "norms of queries and keys");
  require(!a.learns_positions(), a, transform, "learned positions in the place of a RoPE");
  require(!a.sliding_rope, a, transform, "two RoPEs");
  require(a.rotary_dim == 0, a, transform, "heads that are rotated in part");
  require(a.rope.long_divisors.empty(), a, transform, "two sets of RoPE factors");
  require(a.score_scalar == 0 && a.rope.attention_factor == 1, a, transform, "scores of a scale of their own");
}

void require_heads_apart(const Architecture& a, std::string_view transform) {
  require(!a.info().qk_norms_span_heads, a, transform, "norms over all heads");
  require(!a.info().sizes.head_dim.empty(), a, transform, "heads that are as wide as the states together");
}

void require_one_ffn(const Architecture& a, std::string_view transform) {
  require(!a.is_mixture(), a, transform, "a mixture of experts");
}

void require_equal_layers(const Architecture& a, std::string_view transform) {
  require(a.full_attention.empty(), a, transform, "layers with and without a window");
}

}  // namespace adze
