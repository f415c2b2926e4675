#include "transform/rotation.h"

#include <array>

#include "base/error.h"
#include "transform/demands.h"
#include "transform/rotate_tensor.h"

namespace adze {
namespace {

/// What turns in a block; null: nothing.
struct BlockRotations {
  const RandomHadamard* residual;
  const RandomHadamard* heads;
};

/// By NormSlot: what the norms of a block multiply by.
using NormGains = std::array<std::vector<float>, kNormCount>;

/// Which sides of a linear turn. Gains leave their norms with R1 only.
TensorSides sides_of(LinearSlot slot, const NormGains& gains, const BlockRotations& rotations) {
  const auto reads_residual = [&](NormSlot norm) {
    TensorSides sides;
    if (!rotations.residual) return sides;
    sides.in = rotations.residual;
    sides.gain = gains[static_cast<std::size_t>(norm)];
    return sides;
  };
  switch (slot.kind) {
    case LinearSlot::q:
    case LinearSlot::k:
      return reads_residual(NormSlot::before_attention);
    case LinearSlot::v: {
      TensorSides sides = reads_residual(NormSlot::before_attention);
      sides.out = rotations.heads;
      return sides;
    }
    case LinearSlot::o:
      return {rotations.heads, rotations.residual, {}};
    case LinearSlot::router:
    case LinearSlot::shared_router:
    case LinearSlot::gate:
    case LinearSlot::up:
      return reads_residual(NormSlot::before_ffn);
    case LinearSlot::down:
      return {nullptr, rotations.residual, {}};
  }
  fail(ErrorKind::internal, "linear {} has no rotation", static_cast<int>(slot.kind));
}

void check_size(std::size_t size, std::string_view what, std::string_view rotation) {
  if (!has_hadamard(size))
    fail(ErrorKind::bad_recipe, "{} {} cannot be rotated: it must be {}; leave out the rotation of {}", what, size,
         hadamard_lengths(), rotation);
}

const RandomHadamard* pointer_to(const std::optional<RandomHadamard>& rotation) {
  return rotation ? &*rotation : nullptr;
}

}  // namespace

Rotation::Rotation(const Architecture& original, const RotationOptions& options)
    : original_(original), options_(options) {
  if (options.heads) check_size(original.head_dim, "head size", "heads");
  if (!options.residual) return;
  require_readable_states(original, "rotate residual=true");
  check_size(original.hidden, "hidden size", "the residual stream");
  residual_.emplace(original.hidden, options.seed, "rotation.residual");
  unties_ = original.tied;
}

Architecture Rotation::architecture(const Architecture& before) const {
  Architecture after = before;
  if (!options_.residual) return after;
  if (before.tied) after.tied_stated = true;
  after.tied = false;
  return after;
}

std::optional<RandomHadamard> Rotation::head_rotation(std::size_t block) const {
  if (!options_.heads) return std::nullopt;
  return RandomHadamard(original_.head_dim, options_.seed, fmt::format("rotation.layers.{}.heads", block));
}

BlockWeights Rotation::block(BlockWeights block, std::size_t index, const BlockInputs* /*inputs*/) const {
  const std::optional<RandomHadamard> heads = head_rotation(index);
  const BlockRotations rotations{pointer_to(residual_), pointer_to(heads)};
  NormGains gains;
  for (std::size_t n = 0; n < kNormCount; ++n) gains[n] = gains_of_norm(original_, block.norms[n]);
  for (const LinearInfo& info : block_linears(original_)) {
    Linear& linear = block[info.slot];
    const TensorSides sides = sides_of(info.slot, gains, rotations);
    with_context(module_name(index, info), [&] {
      linear.weight = rotate_tensor(std::move(linear.weight), sides);
      if (sides.out) linear.bias = rotate_bias(linear.bias, *sides.out);
    });
  }
  for (const NormSlot norm : {NormSlot::before_attention, NormSlot::before_ffn})
    block[norm] = final_norm(std::move(block[norm]));
  return block;
}

TensorPtr Rotation::embedding(TensorPtr table) const {
  return with_context("embed_tokens", [&] {
    return rotate_tensor(std::move(table), {pointer_to(residual_), nullptr, {}});
  });
}

TensorPtr Rotation::head(TensorPtr table, std::span<const float> norm) const {
  if (!residual_) return table;
  const std::vector<float> gains = gains_of_norm(original_, norm);
  return with_context("lm_head", [&] { return rotate_tensor(std::move(table), {&*residual_, nullptr, gains}); });
}

std::vector<float> Rotation::final_norm(std::vector<float> norm) const {
  if (!residual_) return norm;
  return norm_of_gains(original_, std::vector<float>(norm.size(), 1.0f));
}

std::string Rotation::description() const {
  return fmt::format("rotate residual={} heads={} seed={}", options_.residual, options_.heads, options_.seed);
}

std::string Rotation::remark() const {
  return unties_ ? "the head was the embedding table and is one of its own now, as the final norm moves into it" : "";
}

std::shared_ptr<const Transform> configure_rotation(MapReader& options, const Architecture& original) {
  RotationOptions rotation;
  const Value residual = options.optional("residual");
  rotation.residual = residual.boolean().value_or(rotation.residual);
  rotation.heads = options.optional("heads").boolean().value_or(rotation.heads);
  rotation.seed = options.optional("seed").count(0, UINT64_MAX).value_or(rotation.seed);
  if (!rotation.residual && !rotation.heads) residual.complain("and heads are false: nothing is rotated");
  return std::make_shared<Rotation>(original, rotation);
}

}  // namespace adze
