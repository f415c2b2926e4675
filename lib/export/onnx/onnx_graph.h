// An ONNX model while it is put together: nodes in the order of computation, small constants inside, weights as places
// in a side file (external data). Versions: IR 10, operators 21, and com.microsoft 1 where one of its operators is
// used.
//
// Weights get their places when they are declared, before any of them exists, so that sizes are exact beforehand.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace adze {

namespace onnx {
class ModelProto;
}

inline constexpr const char* kOnnxModelName = "model.onnx";
inline constexpr const char* kOnnxDataName = "model.onnx_data";

/// Element types, as ONNX numbers them.
enum class OnnxType : int {
  f32 = 1,
  u8 = 2,
  i8 = 3,
  i32 = 6,
  i64 = 7,
  boolean = 9,
  f16 = 10,
  bf16 = 16,
  u4 = 21,
  i4 = 22
};

/// Of a tensor of `count` elements; elements of 4 bits are packed over the whole tensor.
std::uint64_t onnx_bytes(OnnxType type, std::uint64_t count);

/// Of where such a weight begins: at a page when it is large, so that it can be mapped, else at a cache line.
constexpr std::uint64_t onnx_alignment(std::uint64_t bytes) { return bytes >= 4096 ? 4096 : 64; }

struct OnnxAttribute {
  std::string_view name;
  std::variant<std::int64_t, float, std::string, std::vector<std::int64_t>> value;
};

/// A size, or the name of one that is known at run time.
using OnnxDim = std::variant<std::int64_t, std::string>;

/// A weight and its place in the side file.
struct OnnxWeight {
  std::string name;
  OnnxType type = OnnxType::f32;
  std::vector<std::uint64_t> dims;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

class OnnxGraph {
 public:
  using Names = std::vector<std::string>;
  using Attributes = std::vector<OnnxAttribute>;

  /// properties: what the file says of its making.
  explicit OnnxGraph(const std::vector<std::pair<std::string, std::string>>& properties);
  OnnxGraph(OnnxGraph&&) noexcept;
  ~OnnxGraph();

  void input(const std::string& name, OnnxType type, const std::vector<OnnxDim>& shape);
  void output(const std::string& name, OnnxType type, const std::vector<OnnxDim>& shape);

  /// Inputs and outputs of "" are left out. All inputs must exist already; throws internal otherwise, and for a name
  /// that exists.
  void node(const std::string& op, const std::string& name, const Names& inputs, const Names& outputs,
            const Attributes& attributes = {});
  /// The same with the one output NAME/output_0, which it returns.
  std::string add(const std::string& op, const std::string& name, const Names& inputs,
                  const Attributes& attributes = {});

  /// Constants, each of which is there once; return their names.
  std::string ints(const std::vector<std::int64_t>& values);
  std::string scalar(std::int64_t value);
  std::string scalar(float value);

  /// Declares a weight; its name.
  std::string weight(const std::string& name, OnnxType type, std::vector<std::uint64_t> dims);
  /// The bytes of a weight once more, in another shape of the same size.
  std::string second_view(const std::string& name, std::vector<std::uint64_t> dims, const std::string& of);
  const std::vector<OnnxWeight>& weights() const { return weights_; }
  /// Size of the side file.
  std::uint64_t data_bytes() const;

  /// The file's bytes. Throws bad_data above 2 GiB.
  std::string serialized() const;

 private:
  void define(const std::string& name);
  void declare(const OnnxWeight& weight);
  std::string constant(const std::string& name, OnnxType type, const std::vector<std::int64_t>& dims,
                       std::string_view raw);

  std::unique_ptr<onnx::ModelProto> model_;
  std::set<std::string> values_, nodes_;
  std::vector<OnnxWeight> weights_;
  bool has_contrib_ = false;
};

}  // namespace adze
