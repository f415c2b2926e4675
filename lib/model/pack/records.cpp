#include "model/pack/records.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "base/checked.h"
#include "base/error.h"
#include "checkpoint/folder_files.h"
#include "grid/format.h"
#include "model/pack/pack.pb.h"
#include "model/rope.h"

namespace adze {
namespace {

constexpr std::size_t kMostNameBytes = 1024;
constexpr std::size_t kMostFiles = 1024;
constexpr std::uint64_t kLeastPiece = 4096, kLargestPiece = std::uint64_t{1} << 30;
constexpr std::size_t kHashDigits = 32;

// Enumerations: the numbers of both sides are those of pack.proto.

struct RoleRow {
  TensorRole role;
  pack::Role stored;
};
constexpr std::array kRoles{RoleRow{TensorRole::embedding, pack::EMBEDDING}, RoleRow{TensorRole::linear, pack::LINEAR},
                            RoleRow{TensorRole::norm, pack::NORM},           RoleRow{TensorRole::bias, pack::BIAS},
                            RoleRow{TensorRole::head, pack::HEAD},           RoleRow{TensorRole::router, pack::ROUTER},
                            RoleRow{TensorRole::positions, pack::POSITIONS}};

struct RopeRow {
  RopeKind kind;
  pack::RopeKind stored;
};
constexpr std::array kRopes{RopeRow{RopeKind::none, pack::PLAIN}, RopeRow{RopeKind::linear, pack::LINEAR_SCALED},
                            RopeRow{RopeKind::llama3, pack::LLAMA3}, RopeRow{RopeKind::longrope, pack::LONG},
                            RopeRow{RopeKind::yarn, pack::YARN}};

struct ActivationRow {
  Activation activation;
  pack::Activation stored;
};
constexpr std::array kActivations{ActivationRow{Activation::silu, pack::SILU},
                                  ActivationRow{Activation::gelu_tanh, pack::GELU_TANH},
                                  ActivationRow{Activation::relu, pack::RELU}};

struct EncodingRow {
  int number;
  const char* name;
  std::optional<PackEncoding> encoding;  ///< nothing: reserved
};
constexpr std::array kEncodings{
    EncodingRow{pack::RAW, "raw", PackEncoding::raw}, EncodingRow{pack::RANS, "rans", PackEncoding::rans},
    EncodingRow{pack::PLANES, "planes", std::nullopt}, EncodingRow{pack::DELTA, "delta", PackEncoding::delta},
    EncodingRow{pack::SAME, "same", PackEncoding::same}};

// To messages.

void to_proto(const PackRegion& region, pack::Region& out) {
  out.set_offset(region.offset);
  out.set_bytes(region.bytes);
  out.set_hash(region.hash);
  out.mutable_checks()->Add(region.checks.begin(), region.checks.end());
}

void to_proto(const RopeSpec& rope, std::size_t rotated, pack::Rope& out) {
  out.set_kind(std::ranges::find(kRopes, rope.kind, &RopeRow::kind)->stored);
  out.set_theta(rope.theta);
  out.set_factor(rope.factor);
  out.set_low_freq_factor(rope.low_freq_factor);
  out.set_high_freq_factor(rope.high_freq_factor);
  out.set_original_max_positions(rope.original_max_positions);
  out.mutable_divisors()->Add(rope.divisors.begin(), rope.divisors.end());
  const std::vector<double> frequencies = rope_frequencies(rope, rotated);
  out.mutable_frequencies()->Add(frequencies.begin(), frequencies.end());
  out.set_attention_factor(rope.attention_factor == 1 ? 0 : rope.attention_factor);
  out.mutable_long_divisors()->Add(rope.long_divisors.begin(), rope.long_divisors.end());
  if (rope.kind != RopeKind::yarn) return;
  out.set_beta_fast(rope.beta_fast);
  out.set_beta_slow(rope.beta_slow);
}

/// What follows from the family, for readers that do not know it.
void add_family(const Architecture& a, pack::Architecture& out) {
  const FamilyInfo& family = a.info();
  out.set_norm_offset(family.norm_offset);
  out.set_norm_kind(family.norm_kind == NormKind::layer ? pack::LAYER : pack::RMS);
  out.set_position_rows(a.position_rows());
  out.set_position_offset(family.positions.offset);
  out.set_no_gate(!family.is_gated());
}

void to_proto(const Architecture& a, pack::Architecture& out) {
  out.set_family(a.family);
  out.set_hidden(a.hidden);
  out.set_ffn(a.ffn);
  out.set_layers(a.layers);
  out.set_heads(a.heads);
  out.set_kv_heads(a.kv_heads);
  out.set_head_dim(a.head_dim);
  out.set_vocab(a.vocab);
  out.set_max_positions(a.max_positions);
  out.set_norm_eps(a.norm_eps);
  if (!a.learns_positions()) to_proto(a.rope, a.rotated(), *out.mutable_rope());
  out.set_tied(a.tied);
  out.set_qkv_bias(a.qkv_bias);
  out.set_o_bias(a.o_bias);
  out.set_mlp_bias(a.mlp_bias);
  out.set_sliding_window(a.sliding_window);
  if (a.bos_id) out.set_bos_id(*a.bos_id);
  out.mutable_eos_ids()->Add(a.eos_ids.begin(), a.eos_ids.end());
  out.mutable_full_attention()->Add(a.full_attention.begin(), a.full_attention.end());
  if (a.sliding_rope) to_proto(*a.sliding_rope, a.rotated(), *out.mutable_sliding_rope());
  out.set_activation(std::ranges::find(kActivations, a.activation, &ActivationRow::activation)->stored);
  out.set_embedding_scale(a.embedding_scale == 1 ? 0 : a.embedding_scale);
  out.set_score_scalar(a.score_scalar);
  out.set_attention_cap(a.attention_cap);
  out.set_final_cap(a.final_cap);
  out.set_experts(a.experts);
  out.set_experts_per_token(a.experts_per_token);
  out.set_expert_ffn(a.expert_ffn);
  out.set_shared_ffn(a.shared_ffn);
  out.set_renormalised(a.renormalised);
  out.set_rotary_dim(a.rotary_dim);
  add_family(a, out);
}

// From messages.

/// Powers have other last bits elsewhere.
bool is_near(double meant, double stored) { return std::fabs(meant - stored) <= 1e-9 * std::fabs(meant); }

RopeSpec from_proto(const pack::Rope& rope) {
  const auto* const row = std::ranges::find(kRopes, rope.kind(), &RopeRow::stored);
  if (row == kRopes.end()) fail(ErrorKind::bad_data, "unknown kind of RoPE {}", static_cast<int>(rope.kind()));
  RopeSpec spec{rope.theta(),
                row->kind,
                rope.factor(),
                rope.low_freq_factor(),
                rope.high_freq_factor(),
                checked_cast<std::size_t>(rope.original_max_positions())};
  spec.divisors.assign(rope.divisors().begin(), rope.divisors().end());
  spec.attention_factor = rope.attention_factor() == 0 ? 1 : rope.attention_factor();
  spec.long_divisors.assign(rope.long_divisors().begin(), rope.long_divisors().end());
  if (row->kind != RopeKind::yarn) return spec;
  spec.beta_fast = rope.beta_fast();
  spec.beta_slow = rope.beta_slow();
  return spec;
}

void check_frequencies(const RopeSpec& rope, std::size_t rotated, const pack::Rope& stored) {
  if (!std::ranges::equal(rope_frequencies(rope, rotated), stored.frequencies(), is_near))
    fail(ErrorKind::bad_data, "the RoPE frequencies are not those of its other numbers");
}

Activation activation_of(const pack::Architecture& a) {
  const auto* const row = std::ranges::find(kActivations, a.activation(), &ActivationRow::stored);
  if (row == kActivations.end()) fail(ErrorKind::bad_data, "unknown activation {}", static_cast<int>(a.activation()));
  return row->activation;
}

/// What a pack says of norms, positions and the FFN is that of its family.
void check_family(const Architecture& architecture, const pack::Architecture& stored) {
  pack::Architecture meant;
  add_family(architecture, meant);
  if (stored.norm_kind() != meant.norm_kind() || stored.position_rows() != meant.position_rows() ||
      stored.position_offset() != meant.position_offset() || stored.no_gate() != meant.no_gate())
    fail(ErrorKind::bad_data, "norms, positions or the gate are not those of {}", architecture.family);
}

Architecture from_proto(const pack::Architecture& a) {
  Architecture architecture;
  architecture.family = a.family();
  architecture.hidden = a.hidden();
  architecture.ffn = a.ffn();
  architecture.layers = a.layers();
  architecture.heads = a.heads();
  architecture.kv_heads = a.kv_heads();
  architecture.head_dim = a.head_dim();
  architecture.vocab = a.vocab();
  architecture.max_positions = a.max_positions();
  architecture.norm_eps = a.norm_eps();
  if (!architecture.learns_positions()) architecture.rope = from_proto(a.rope());
  architecture.tied = a.tied();
  architecture.qkv_bias = a.qkv_bias();
  architecture.o_bias = a.o_bias();
  architecture.mlp_bias = a.mlp_bias();
  architecture.sliding_window = a.sliding_window();
  if (a.has_bos_id()) architecture.bos_id = a.bos_id();
  architecture.eos_ids.assign(a.eos_ids().begin(), a.eos_ids().end());
  architecture.full_attention.assign(a.full_attention().begin(), a.full_attention().end());
  if (a.has_sliding_rope()) architecture.sliding_rope = from_proto(a.sliding_rope());
  architecture.activation = activation_of(a);
  architecture.embedding_scale = a.embedding_scale() == 0 ? 1 : a.embedding_scale();
  architecture.score_scalar = a.score_scalar();
  architecture.attention_cap = a.attention_cap();
  architecture.final_cap = a.final_cap();
  architecture.experts = a.experts();
  architecture.experts_per_token = a.experts_per_token();
  architecture.expert_ffn = a.expert_ffn();
  architecture.shared_ffn = a.shared_ffn();
  architecture.renormalised = a.renormalised();
  architecture.rotary_dim = a.rotary_dim();
  check_architecture(architecture, "the model record");
  if (a.norm_offset() != static_cast<double>(architecture.info().norm_offset))
    fail(ErrorKind::bad_data, "norms are offset by {}, those of {} by {}", a.norm_offset(), architecture.family,
         architecture.info().norm_offset);
  check_family(architecture, a);
  if (!architecture.learns_positions()) check_frequencies(architecture.rope, architecture.rotated(), a.rope());
  if (architecture.sliding_rope)
    check_frequencies(*architecture.sliding_rope, architecture.rotated(), a.sliding_rope());
  return architecture;
}

void check_hash(const std::string& text) {
  if (text.size() != kHashDigits || text.find_first_not_of("0123456789abcdef") != std::string::npos)
    fail(ErrorKind::bad_data, "'{}' is no hash of {} digits", text, kHashDigits);
}

/// Regions lie one after the other: `end` is where the last one ended.
PackRegion from_proto(const pack::Region& region, std::uint64_t piece_bytes, std::uint64_t& end) {
  const std::uint64_t expected = round_up(end, kPackAlignment);
  if (region.offset() != expected)
    fail(ErrorKind::bad_data, "its data begin at {}, the region before ends at {}: the next multiple of {} is meant",
         region.offset(), end, kPackAlignment);
  end = checked_add(expected, region.bytes());
  check_hash(region.hash());
  const std::uint64_t pieces = divide_up(region.bytes(), piece_bytes);
  if (static_cast<std::uint64_t>(region.checks_size()) != pieces)
    fail(ErrorKind::bad_data, "{} checksums for {} pieces", region.checks_size(), pieces);
  return {region.offset(), region.bytes(), region.hash(), {region.checks().begin(), region.checks().end()}};
}

void check_name(const std::string& name) {
  const bool printable = std::ranges::none_of(name, [](unsigned char c) { return c < 0x20 || c == 0x7F; });
  if (name.empty() || name.size() > kMostNameBytes || !printable)
    fail(ErrorKind::bad_data, "a name or format that is empty, longer than {} bytes or has control characters",
         kMostNameBytes);
}

PackEncoding encoding_of(const pack::Tensor& tensor) {
  const int number = tensor.encoding();
  const auto* const row = std::ranges::find(kEncodings, number, &EncodingRow::number);
  if (row != kEncodings.end() && row->encoding) return *row->encoding;
  fail(ErrorKind::bad_data, "tensor '{}': encoding {} ({}) is not read by this version", tensor.name(), number,
       row == kEncodings.end() ? "unknown" : row->name);
}

}  // namespace

std::string model_record(const PackManifest& manifest) {
  pack::Record record;
  pack::Model& model = *record.mutable_model();
  model.set_name(manifest.name);
  to_proto(manifest.architecture, *model.mutable_architecture());
  for (const auto& [key, value] : manifest.provenance) {
    pack::Pair& pair = *model.add_provenance();
    pair.set_key(key);
    pair.set_value(value);
  }
  model.set_piece_bytes(manifest.piece_bytes);
  if (manifest.base) {
    model.mutable_base()->set_name(manifest.base->name);
    model.mutable_base()->set_hash(manifest.base->hash);
  }
  return record.SerializeAsString();
}

std::string file_record(const PackedFile& file) {
  pack::Record record;
  record.mutable_file()->set_name(file.name);
  to_proto(file.region, *record.mutable_file()->mutable_region());
  return record.SerializeAsString();
}

std::string tensor_record(const PackTensor& tensor) {
  pack::Record record;
  pack::Tensor& out = *record.mutable_tensor();
  out.set_name(tensor.name);
  out.set_module(tensor.module);
  out.set_role(std::ranges::find(kRoles, tensor.role, &RoleRow::role)->stored);
  out.mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
  out.set_format(tensor.format);
  const auto* const row = std::ranges::find(kEncodings, std::optional(tensor.encoding), &EncodingRow::encoding);
  out.set_encoding(static_cast<pack::Encoding>(row->number));
  to_proto(tensor.region, *out.mutable_region());
  out.set_payload_bytes(tensor.payload_bytes());
  out.set_base_hash(tensor.base_hash);
  return record.SerializeAsString();
}

void PackRecords::add(std::string_view message) {
  pack::Record record;
  if (!record.ParseFromArray(message.data(), static_cast<int>(message.size())))
    fail(ErrorKind::bad_data, "is no record");
  if (record.has_model() != !begun_)
    fail(ErrorKind::bad_data, "{}", begun_ ? "a second model record" : "the first record is not that of the model");
  if (record.has_model()) return add_model(record.model());
  if (record.has_file()) return add_file(record.file());
  if (record.has_tensor()) return add_tensor(record.tensor());
  fail(ErrorKind::bad_data, "a kind of record that this version does not know");
}

PackManifest PackRecords::take() {
  if (!begun_) fail(ErrorKind::bad_data, "no record says what the model is");
  if (manifest_.base && manifest_.base->hash != hash_of_base(manifest_.tensors))
    fail(ErrorKind::bad_data, "the base's hash is not that of its tensors' hashes");
  return std::move(manifest_);
}

void PackRecords::add_model(const pack::Model& model) {
  begun_ = true;
  manifest_.name = model.name();
  manifest_.architecture = from_proto(model.architecture());
  for (const pack::Pair& pair : model.provenance()) manifest_.provenance.emplace_back(pair.key(), pair.value());
  manifest_.piece_bytes = model.piece_bytes();
  if (manifest_.piece_bytes < kLeastPiece || manifest_.piece_bytes > kLargestPiece)
    fail(ErrorKind::bad_data, "pieces of {} bytes; {} to {} are allowed", manifest_.piece_bytes, kLeastPiece,
         kLargestPiece);
  if (!model.has_base()) return;
  manifest_.base = {model.base().name(), model.base().hash()};
  check_name(manifest_.base->name);
  check_hash(manifest_.base->hash);
}

void PackRecords::add_file(const pack::File& file) {
  if (!is_bare_name(file.name()) || file.name().size() > kMostNameBytes)
    fail(ErrorKind::bad_data, "a file of a name that no file has");
  with_context(fmt::format("file '{}'", file.name()), [&] {
    if (!manifest_.tensors.empty()) fail(ErrorKind::bad_data, "files come before tensors");
    if (manifest_.files.size() == kMostFiles) fail(ErrorKind::bad_data, "more than {} files", kMostFiles);
    if (!names_.insert("file " + file.name()).second) fail(ErrorKind::bad_data, "is there twice");
    manifest_.files.push_back({file.name(), from_proto(file.region(), manifest_.piece_bytes, end_)});
    if (file.region().bytes() > kMaxStoreFileBytes)
      fail(ErrorKind::bad_data, "{} bytes, {} are allowed", file.region().bytes(), kMaxStoreFileBytes);
  });
}

/// What goes with a base is said of all tensors of a delta and of no others.
void PackRecords::check_base_of(const PackTensor& tensor) const {
  if (!manifest_.base) {
    if (tensor.needs_base() || !tensor.base_hash.empty())
      fail(ErrorKind::bad_data, "is said to differ from a base, which the model record does not have");
    return;
  }
  check_hash(tensor.base_hash);
  if ((tensor.encoding == PackEncoding::same) != (tensor.format == kSameFormat))
    fail(ErrorKind::bad_data, "format '{}', encoding {}: both or neither stand for the base's own tensor",
         tensor.format, static_cast<int>(tensor.encoding));
}

void PackRecords::add_tensor(const pack::Tensor& tensor) {
  check_name(tensor.name());
  const PackEncoding encoding = encoding_of(tensor);
  with_context(fmt::format("tensor '{}'", tensor.name()), [&] {
    check_name(tensor.format());
    check_name(tensor.module());
    if (!names_.insert("tensor " + tensor.name()).second) fail(ErrorKind::bad_data, "is there twice");
    const auto* const role = std::ranges::find(kRoles, tensor.role(), &RoleRow::stored);
    if (role == kRoles.end()) fail(ErrorKind::bad_data, "unknown role {}", static_cast<int>(tensor.role()));
    if (tensor.shape_size() < 1 || tensor.shape_size() > 2)
      fail(ErrorKind::bad_data, "{} dimensions; there are vectors and matrices", tensor.shape_size());
    PackTensor made{tensor.name(),   tensor.module(),
                    role->role,      {tensor.shape().begin(), tensor.shape().end()},
                    tensor.format(), from_proto(tensor.region(), manifest_.piece_bytes, end_),
                    encoding,        tensor.base_hash()};
    check_base_of(made);
    checked_product(made.shape);
    const std::uint64_t bytes = made.payload_bytes();
    const bool fits = encoding == PackEncoding::rans ? made.region.bytes < bytes : made.region.bytes == bytes;
    if (!fits || tensor.payload_bytes() != bytes)
      fail(ErrorKind::bad_data, "{} bytes, of a payload of {}; its format says {}", made.region.bytes,
           tensor.payload_bytes(), bytes);
    manifest_.tensors.push_back(std::move(made));
  });
}

}  // namespace adze
