// A Hugging Face folder of floats: what every researcher evaluates with. Codes are decoded, masks stay zeros, factors
// are multiplied out; all in the dtype that config.json names, BF16 where it names none. Floats stay as they are
// stored.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "export/folder/folder_format.h"
#include "grid/format.h"

namespace adze {
namespace {

class PlainFormat final : public FolderFormat {
 public:
  std::optional<std::string> cannot_hold(const PlannedTensor&) const override { return std::nullopt; }

  std::optional<std::string> remark(const PlannedTensor& tensor) const override {
    if (dtype_from_name(tensor.format)) return std::nullopt;
    return fmt::format("{}: {} is decoded and rounded to the dtype of config.json, BF16 without one",
                       tensor.spec.module, tensor.format);
  }

  std::vector<SafetensorsSpec> parts(const PlannedTensor& tensor, DType floats) const override {
    return {
        {tensor.spec.hf_name, safetensors_type_of(dtype_from_name(tensor.format).value_or(floats)), tensor.spec.shape}};
  }

  SharedBytes encode(const PlannedTensor&, const SafetensorsSpec& /*part*/, const LoadMatrix& load) const override {
    const TensorPtr matrix = load();
    return {matrix->payload(), matrix};
  }

  TensorPtr as_stored(const TensorPtr& matrix, DType floats) const override {
    if (dtype_from_name(matrix->format())) return matrix;
    return std::make_shared<DenseTensor>(make_dense(matrix->decode(), floats));
  }
};

}  // namespace

std::unique_ptr<FolderFormat> make_plain_format() { return std::make_unique<PlainFormat>(); }

}  // namespace adze
