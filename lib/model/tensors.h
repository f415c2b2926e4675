// The tensors an architecture consists of: one table says what each is called here, in a Hugging Face checkpoint and in
// a GGUF file, its shape, what it is for, which stage of its block it belongs to and how the GGUF conversion permutes
// it.
//
// validate_tensors compares a checkpoint with that table before anything is computed from it: what is missing, what is
// too much, what has another shape.
#pragma once

#include <compare>
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

enum class TensorRole : std::uint8_t {
  embedding,
  linear,
  router,  ///< what experts are chosen by: a linear of its block that no scheme solves
  norm,
  bias,
  head,
  positions,  ///< rows that are added to those of the embedding: no scheme solves them
  kept,       ///< of a model whose architecture is not known: any shape and dtype, passed on byte for byte
};

/// A linear of a block: of its attention, of its FFN, or of one of its experts. Ordered as tables list them.
struct LinearSlot {
  enum Kind : std::uint8_t {
    q,
    k,
    v,
    o,
    router,         ///< [experts x hidden]
    shared_router,  ///< [1 x hidden]: what the output of the shared expert is multiplied by, after a sigmoid
    gate,           ///< of the FFN; in mixtures, of the expert that all tokens share
    up,
    down,
  };
  static constexpr std::size_t kKinds = 9;
  static constexpr std::int32_t kNoExpert = -1;

  constexpr LinearSlot(Kind of, std::size_t expert_index) : expert(static_cast<std::int32_t>(expert_index)), kind(of) {}
  constexpr LinearSlot(Kind of) : kind(of) {}  // NOLINT(google-explicit-constructor): a kind is a slot

  std::int32_t expert = kNoExpert;  ///< whose gate, up or down it is
  Kind kind;

  bool is_expert() const { return expert != kNoExpert; }
  friend constexpr auto operator<=>(const LinearSlot&, const LinearSlot&) = default;
};

/// The linears of a block that share an input. Ordered as they are computed; experts one after the other.
struct Stage {
  enum Kind : std::uint8_t {
    qkv,
    o,
    gate_up,  ///< routers read it, too: in mixtures it is what all tokens give
    down,
  };

  constexpr Stage(Kind of, std::size_t expert_index) : expert(static_cast<std::int32_t>(expert_index)), kind(of) {}
  constexpr Stage(Kind of) : kind(of) {}  // NOLINT(google-explicit-constructor): a kind is a stage

  std::int32_t expert = LinearSlot::kNoExpert;  ///< whose input it is, of the tokens that are sent there
  Kind kind;

  bool is_expert() const { return expert != LinearSlot::kNoExpert; }
  friend constexpr auto operator<=>(const Stage&, const Stage&) = default;
};

std::string_view name_of(TensorRole role);
std::string name_of(Stage stage);  ///< "qkv", "o", "gate_up", "down", "experts.3.gate_up", "experts.3.down"
/// The stages of a block, in the order they are computed: {qkv, o, gate_up, down}; in mixtures `down` is there with a
/// shared expert only, and two stages for each expert follow.
std::vector<Stage> stages_of(const Architecture& architecture);

/// Which rows of a tensor of a GGUF file another tensor is, where it is not the whole of it.
struct GgufRows {
  std::size_t first = 0;   ///< of the tensor in the file
  std::size_t all = 0;     ///< that the tensor in the file has; 0: those of this one, or of experts
  std::size_t absent = 0;  ///< first rows of ours that no file has
  bool operator==(const GgufRows&) const = default;
};

/// What an architecture says of one linear of its blocks.
struct LinearInfo {
  LinearSlot slot;
  Stage stage;
  std::string module;  ///< inside the block: "self_attn.q_proj"
  std::string gguf;    ///< inside the block: "attn_q"; experts share one, as may q, k and v, and gate and up
  Shape shape;         ///< [out x in]
  bool has_bias = false;
  /// Heads whose rows the GGUF conversion permutes where the family does that; 0: rows stay.
  std::size_t permuted_heads = 0;
  GgufRows gguf_rows = {};
};

/// All linears of a block, in the order of tables; as the model's GGUF has them (gguf_row), or as one of another row.
std::vector<LinearInfo> block_linears(const Architecture& architecture);
std::vector<LinearInfo> block_linears(const Architecture& architecture, const FamilyInfo& gguf);
/// The linears of one stage: {q, k, v} {o} {routers, gate, up} {down}. Empty where the architecture has not got it.
std::vector<LinearInfo> linears_of(const Architecture& architecture, Stage stage);
/// Throws internal for a linear that the architecture has not got.
LinearInfo info_of(const Architecture& architecture, LinearSlot slot);
Stage stage_of(LinearSlot slot);
/// How wide the inputs of a stage are.
std::size_t width_of(const Architecture& architecture, Stage stage);
/// "layers.3.self_attn.q_proj".
std::string module_name(std::size_t block, const LinearInfo& info);
std::string module_name(const Architecture& architecture, std::size_t block, LinearSlot slot);
std::string module_name(std::size_t block, const NormInfo& info);
/// [out x in] of a linear in the given architecture.
Shape shape_of(const Architecture& architecture, LinearSlot slot);

/// What checkpoints of a family call a module of ours: "model.layers.3.mlp.up_proj" of "layers.3.mlp.up_proj".
std::string stored_name(const Architecture& architecture, std::string_view module);
/// Modules outside of blocks, in every family.
inline constexpr std::string_view kEmbeddingModule = "embed_tokens";
inline constexpr std::string_view kPositionsModule = "embed_positions";
inline constexpr std::string_view kFinalNormModule = "norm";
inline constexpr std::string_view kHeadModule = "lm_head";

struct TensorSpec {
  std::string module;                ///< "embed_tokens", "layers.3.self_attn.q_proj", "norm", "lm_head"
  std::string hf_name;               ///< "model.layers.3.self_attn.q_proj.weight"
  std::string gguf_name;             ///< "blk.3.attn_q.weight"
  std::vector<std::uint64_t> shape;  ///< slowest first: [out, in], or [n] for norms and biases
  TensorRole role = TensorRole::linear;
  std::optional<std::size_t> block;
  std::optional<LinearSlot> slot;  ///< linears of a block, routers among them, and their biases
  std::optional<NormSlot> norm;    ///< norms of a block, and their biases
  /// Not 0: the GGUF conversion reorders the rows of this many heads (row h*hd + 2k + a <- row h*hd + a*hd/2 + k).
  std::size_t permuted_heads = 0;
  GgufRows gguf_rows = {};
  /// Where the architecture is not known (model/listing.h): its place in its block, and the dtype of the checkpoint.
  std::optional<std::size_t> listed = {};
  DType dtype = DType::f32;

  std::optional<Stage> stage() const;
  /// [out x in] of a matrix.
  Shape matrix_shape() const;
  bool is_matrix() const { return role != TensorRole::norm && role != TensorRole::bias && role != TensorRole::kept; }
  /// A linear that a GGUF has in one tensor with others: the experts of a block, its q, k and v, or gate and up.
  bool shares_gguf_tensor() const { return slot && (slot->is_expert() || gguf_rows.all > 0); }
  /// Other matrices are few weights that decide much, and stay as they are stored.
  bool takes_schemes() const { return is_matrix() && role != TensorRole::router && role != TensorRole::positions; }
};

/// [n] of a norm in the given architecture.
std::size_t norm_size(const Architecture& architecture, NormSlot slot);

/// What a GGUF has in one tensor: "the experts", "q, k and v", "gate and up". Of a linear that shares_gguf_tensor().
std::string_view gguf_stack_in_words(const TensorSpec& spec);

/// Embedding, positions where they are learned, blocks in order (norms, linears, biases), final norm, and the head
/// unless it is tied; as the model's GGUF has them (gguf_row), or as one of another row. Of an architecture that is not
/// known, the tensors that it lists, block by block.
std::vector<TensorSpec> expected_tensors(const Architecture& architecture);
std::vector<TensorSpec> expected_tensors(const Architecture& architecture, const FamilyInfo& gguf);

/// Decides whether the head is tied. Without lm_head.weight it is, unless config.json says otherwise (then the tensor
/// is missing); with lm_head.weight it is not, unless config.json says so and both tables have the same bytes. Throws
/// bad_data when config.json says tied and they differ.
Architecture resolve_tying(Architecture architecture, const TensorSource& source);

/// Throws bad_data, naming the tensors, when one is missing, has another shape or dtype than the architecture asks for,
/// or is unknown. Known leftovers such as rotary_emb.inv_freq, and a head that repeats a tied table, are ignored.
void validate_tensors(const Architecture& architecture, const TensorSource& source);

}  // namespace adze
