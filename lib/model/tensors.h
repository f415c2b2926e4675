// The tensors an architecture consists of: one table says what each is called here, in a Hugging Face checkpoint and in
// a GGUF file, its shape, what it is for, which stage of its block it belongs to and how the GGUF conversion permutes
// it.
//
// validate_tensors compares a checkpoint with that table before anything is computed from it: what is missing, what is
// too much, what has another shape.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/matrix.h"
#include "model/architecture.h"

namespace adze {

class TensorSource;

enum class TensorRole : std::uint8_t { embedding, linear, norm, bias, head };
/// The linears of a block that share an input, in the order they are computed.
enum class Stage : std::uint8_t { qkv, o, gate_up, down };
/// The linears of a block, in the order of the table.
enum class LinearSlot : std::uint8_t { q, k, v, o, gate, up, down };

inline constexpr std::size_t kLinearCount = 7;
inline constexpr std::array kStages = {Stage::qkv, Stage::o, Stage::gate_up, Stage::down};

std::string_view name_of(TensorRole role);
std::string_view name_of(Stage stage);  ///< "qkv", "o", "gate_up", "down"

/// What the table says of one linear of a block.
struct LinearInfo {
  LinearSlot slot;
  Stage stage;
  std::string_view module;  ///< inside the block: "self_attn.q_proj"
  std::string_view gguf;    ///< inside the block: "attn_q"
  std::size_t (*rows)(const Architecture&);
  std::size_t (*cols)(const Architecture&);
  bool (*has_bias)(const Architecture&);
  /// Heads whose rows the GGUF conversion permutes where the family does that; 0: rows stay.
  std::size_t (*permuted_heads)(const Architecture&);
};

/// All linears, indexed by LinearSlot.
std::span<const LinearInfo, kLinearCount> block_linears();
const LinearInfo& info_of(LinearSlot slot);
/// The linears of one stage: {q, k, v} {o} {gate, up} {down}.
std::span<const LinearInfo> linears_of(Stage stage);
/// "layers.3.self_attn.q_proj".
std::string module_name(std::size_t block, LinearSlot slot);
/// [out x in] of a linear in the given architecture.
Shape shape_of(const Architecture& architecture, LinearSlot slot);

struct TensorSpec {
  std::string module;                ///< "embed_tokens", "layers.3.self_attn.q_proj", "norm", "lm_head"
  std::string hf_name;               ///< "model.layers.3.self_attn.q_proj.weight"
  std::string gguf_name;             ///< "blk.3.attn_q.weight"
  std::vector<std::uint64_t> shape;  ///< slowest first: [out, in], or [n] for norms and biases
  TensorRole role = TensorRole::linear;
  std::optional<std::size_t> block;
  std::optional<LinearSlot> slot;  ///< linears of a block and their biases
  std::optional<NormSlot> norm;    ///< norms of a block
  /// Not 0: the GGUF conversion reorders the rows of this many heads (row h*hd + 2k + a <- row h*hd + a*hd/2 + k).
  std::size_t permuted_heads = 0;

  std::optional<Stage> stage() const;
};

/// [n] of a norm in the given architecture.
std::size_t norm_size(const Architecture& architecture, NormSlot slot);

/// Embedding, blocks in order (norms, linears, biases), final norm, and the head unless it is tied.
std::vector<TensorSpec> expected_tensors(const Architecture& architecture);

/// Decides whether the head is tied. Without lm_head.weight it is, unless config.json says otherwise (then the tensor
/// is missing); with lm_head.weight it is not, unless config.json says so and both tables have the same bytes. Throws
/// bad_data when config.json says tied and they differ.
Architecture resolve_tying(Architecture architecture, const TensorSource& source);

/// Throws bad_data, naming the tensors, when one is missing, has another shape or dtype than the architecture asks for,
/// or is unknown. Known leftovers such as rotary_emb.inv_freq, and a head that repeats a tied table, are ignored.
void validate_tensors(const Architecture& architecture, const TensorSource& source);

}  // namespace adze
