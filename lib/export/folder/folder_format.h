// Formats that are folders of safetensors files beside a config.json: how a matrix becomes tensors of them, and what
// config.json says of it. One file each in this folder, one row of the exporters' registry; the exporter
// (folder_exporter.h) does the rest.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/byte_array.h"
#include "base/shared_bytes.h"
#include "checkpoint/safetensors_writer.h"
#include "export/exporter.h"
#include "grid/integer/integer_matrix.h"
#include "grid/minifloat/minifloat_matrix.h"

namespace adze {

/// Loads the matrix that a part is made of, as_stored(); for parts that need it.
using LoadMatrix = std::function<TensorPtr()>;

class FolderFormat {
 public:
  virtual ~FolderFormat() = default;

  /// Why runtimes of the format would compute another model than this.
  virtual std::optional<std::string> refuses_model(const Architecture&) const { return std::nullopt; }
  /// As Exporter's, of matrices.
  virtual std::optional<std::string> cannot_hold(const PlannedTensor& tensor) const = 0;
  virtual std::optional<std::string> remark(const PlannedTensor&) const { return std::nullopt; }

  /// The tensors that a matrix becomes.
  virtual std::vector<SafetensorsSpec> parts(const PlannedTensor& tensor, DType floats) const = 0;
  /// All bytes of one of them. Throws internal for values that must not get out.
  virtual SharedBytes encode(const PlannedTensor& tensor, const SafetensorsSpec& part,
                             const LoadMatrix& matrix) const = 0;
  /// What a reader of the folder gets: the matrix with what the format rounds. Of what it returned, the same again.
  virtual TensorPtr as_stored(const TensorPtr& matrix, DType /*floats*/) const { return matrix; }

  virtual bool holds_cache_scales() const { return false; }

  /// Adds to config.json what a runtime must know. Throws bad_data for a plan that the format has no words for.
  virtual void describe(const ExportPlan& /*plan*/, nlohmann::ordered_json& /*config*/) const {}
  /// Files beside config.json that say the same.
  virtual std::vector<StoreFile> more_files(const nlohmann::ordered_json& /*config*/) const { return {}; }
  virtual SafetensorsMetadata metadata() const { return default_safetensors_metadata(); }
};

/// "model.layers.0.self_attn.q_proj" of its weight.
std::string base_name(const TensorSpec& spec);

/// Formats of codes and scales: linears of blocks on a grid of integers, and where a format has them of small floats,
/// become tensors of their own; other matrices stay floats.
class QuantizedFormat : public FolderFormat {
 public:
  std::optional<std::string> cannot_hold(const PlannedTensor& tensor) const final;
  std::optional<std::string> remark(const PlannedTensor& tensor) const final;
  std::vector<SafetensorsSpec> parts(const PlannedTensor& tensor, DType floats) const final;
  SharedBytes encode(const PlannedTensor& tensor, const SafetensorsSpec& part, const LoadMatrix& matrix) const final;
  TensorPtr as_stored(const TensorPtr& matrix, DType floats) const final;

 protected:
  /// "GPTQ": for messages.
  virtual std::string_view name() const = 0;
  /// True for the embedding table and the head, too.
  virtual bool quantizes_tables() const { return false; }
  /// Why a matrix on that grid cannot be stored, and what could.
  virtual std::optional<std::string> refuses(const IntegerGridSpec& spec, Shape shape) const = 0;
  virtual std::optional<std::string> refuses_minifloats(const MinifloatSpec& spec, Shape shape) const;
  virtual std::optional<std::string> remark_on(const IntegerGridSpec&) const { return std::nullopt; }
  virtual std::optional<std::string> remark_on_minifloats(const MinifloatSpec&) const { return std::nullopt; }
  virtual std::vector<SafetensorsSpec> integer_parts(const std::string& base, const IntegerGridSpec& spec,
                                                     Shape shape) const = 0;
  virtual std::vector<SafetensorsSpec> minifloat_parts(const std::string& base, const MinifloatSpec& spec,
                                                       Shape shape) const;
  /// Parts that sizes alone decide, such as a shape; nothing for others. suffix: of the part's name, "g_idx".
  virtual std::optional<ByteArray> encode_sizes(const IntegerGridSpec&, Shape, std::string_view) const {
    return std::nullopt;
  }
  virtual std::optional<ByteArray> encode_minifloat_sizes(const MinifloatSpec&, Shape, std::string_view) const {
    return std::nullopt;
  }
  /// sides: a matrix without its codes. codes: where they are stored, for "weight", "weight_packed" and "qweight".
  virtual ByteArray encode_integers(IntegerMatrix sides, CodeRows codes, std::string_view suffix) const = 0;
  virtual ByteArray encode_minifloats(MinifloatMatrix matrix, std::string_view suffix) const;

 private:
  std::optional<std::string> refusal(const PlannedTensor& tensor) const;
};

/// The grid of a matrix that a format would store as codes; nothing for floats.
std::optional<IntegerGridSpec> integers_of(const PlannedTensor& tensor);
std::optional<MinifloatSpec> minifloats_of(const PlannedTensor& tensor);
Shape shape_of(const PlannedTensor& tensor);

/// Linears of a plan: HF name without ".weight", and their grid. Of a model that is a list of tensors, what has a
/// weight that is kept as it is, too: which class of module it is, nobody knows.
struct PlannedLinear {
  std::string base;
  TensorRole role;
  std::optional<IntegerGridSpec> integers;
  std::optional<MinifloatSpec> minifloats;

  bool is_quantized() const { return integers || minifloats; }
};
std::vector<PlannedLinear> planned_linears(const ExportPlan& plan);

/// Columns per scale as configurations say it: -1 for a scale a row.
int group_size(const IntegerGridSpec& spec);

std::unique_ptr<FolderFormat> make_plain_format();
/// Whether runtimes quantize the inputs of linears as well, while they run.
enum class Activations { floats, eight_bits };
std::unique_ptr<FolderFormat> make_compressed_tensors_format(Activations activations);
std::unique_ptr<FolderFormat> make_gptq_format();
std::unique_ptr<FolderFormat> make_awq_format();
std::unique_ptr<FolderFormat> make_mlx_format();

}  // namespace adze
