#include "export/onnx/onnx_exporter.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/background.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "checkpoint/export_manifest.h"
#include "export/compare_models.h"
#include "export/folder/kept_config.h"
#include "export/folder/model_card.h"
#include "export/folder/new_folder.h"
#include "export/onnx/decoder_graph.h"
#include "export/onnx/genai_config.h"
#include "grid/format.h"
#include "model/onnx/onnx_weights.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

class OnnxExporter final : public Exporter {
 public:
  OnnxExporter(std::string_view name, OnnxOperators operators) : name_(name), operators_(operators) {}

  std::optional<std::string> cannot_hold(const Architecture&, const PlannedTensor& tensor) const override {
    return tensor.spec.shape.size() == 2 ? onnx_refuses(tensor, operators_) : std::nullopt;
  }

  std::optional<std::string> remark(const Architecture& architecture, const PlannedTensor& tensor) const override {
    const std::optional<std::string> own =
        tensor.spec.shape.size() == 2 ? onnx_remark(tensor, operators_) : std::nullopt;
    if (tensor.spec.role != TensorRole::embedding) return own;
    const std::optional<std::string> rope = remark_on_rope(architecture);  // of the whole graph, but said once
    return own && rope ? *own + "; " + *rope : own ? own : rope;
  }

  std::uint64_t predict_bytes(const ExportPlan& plan) const override {
    check(plan);
    const DecoderGraph model = decoder_graph(plan, operators_);
    std::uint64_t bytes = checked_add(model.graph.serialized().size(), model.graph.data_bytes());
    const std::vector<StoreFile> kept = texts(plan);
    for (const StoreFile& file : kept) bytes = checked_add(bytes, file.text.size());
    return checked_add(bytes, manifest_of(plan, model, kept).text().size());
  }

  OwnBytes own_bytes(const ExportPlan& plan) const override {
    return [this, &plan](const PlannedTensor& tensor) {
      if (const auto reason = cannot_hold(plan.architecture, tensor)) fail(ErrorKind::bad_data, "{}", *reason);
      OnnxPart part = onnx_part(tensor, plan.architecture, operators_);
      for (const OnnxWeight& weight : part.weights)
        part.bytes += bytes_in_export_manifest({weight.name, kOnnxDataName, weight.offset, weight.bytes, ""});
      return part.bytes;
    };
  }

  std::vector<fs::path> files(const ExportPlan& plan, const fs::path& path) const override {
    std::vector<fs::path> paths{path / kModelConfigName};  // what says that the folder is a model
    for (const char* const name : {kOnnxModelName, kOnnxDataName}) paths.push_back(path / name);
    for (const StoreFile& file : texts(plan))
      if (file.name != kModelConfigName) paths.push_back(path / file.name);
    paths.push_back(path / kExportManifestName);
    return paths;
  }

  void write(const ExportPlan& plan, const ModelWeights& model, const fs::path& path,
             Progress& progress) const override {
    const std::vector<StoreFile> kept = with_context(path.string(), [&] { return texts(plan); });
    check(plan);
    const DecoderGraph decoder = decoder_graph(plan, operators_);
    NewFolder folder(path);
    ExportManifest manifest = manifest_of(plan, decoder, kept);
    const MeantTensors meant = write_weights(plan, decoder, model, folder.path() / kOnnxDataName, manifest, progress);
    const std::string graph = decoder.graph.serialized();
    write_file(folder.path() / kOnnxModelName, graph, Durable::later);
    for (const StoreFile& file : kept) write_file(folder.path() / file.name, file.text, Durable::later);
    manifest.files.front().hash = hash_hex(graph);
    write_file(folder.path() / kExportManifestName, manifest.text(), Durable::later);
    folder.begin_sync();
    const OnnxWeights written(folder.path());
    if (written.architecture().tied != plan.architecture.tied)
      fail(ErrorKind::internal, "{}: the head is not tied as the model's", folder.path().string());
    compare_models(plan, written, model, &densified, meant, folder.path().string(), progress, StoredNorms::gains);
    folder.publish();
  }

 private:
  static std::optional<std::string> remark_on_rope(const Architecture& a) {
    if (a.rope.long_divisors.empty()) return std::nullopt;
    return fmt::format(
        "RoPE has other factors for texts above {} tokens: a text that outgrows them has to be computed anew, which "
        "onnxruntime-genai does at 4096",
        a.rope.original_max_positions);
  }

  void check(const ExportPlan& plan) const {
    if (plan.split_max_bytes > 0)
      fail(ErrorKind::bad_data, "{}: its weights are one file; leave the size limit out", name_);
    for (const PlannedTensor& tensor : plan.tensors)
      if (const auto reason = cannot_hold(plan.architecture, tensor)) fail(ErrorKind::bad_data, "{}", *reason);
  }

  /// All files but the model's own; config.json last.
  std::vector<StoreFile> texts(const ExportPlan& plan) const {
    std::vector<StoreFile> all{
        {kGenaiConfigName, genai_config(plan, has_attention_operator(plan.architecture, operators_))}};
    for (const StoreFile& file : plan.files)
      if (file.name != kModelConfigName && file.name != "README.md") all.push_back(file);
    all.push_back({"README.md", model_card(plan, name_)});
    all.push_back({kModelConfigName, config(plan).dump(2) + "\n"});
    return all;
  }

  /// With what transformers.js, in browsers, is to know: the name of the graph has no suffix (those are for other types
  /// of activations), and there is one file of weights, whose name it makes from the graph's.
  static nlohmann::ordered_json config(const ExportPlan& plan) {
    nlohmann::ordered_json json = kept_config(plan);
    json["transformers.js_config"] = {{"dtype", "fp32"}, {"use_external_data_format", true}};
    return json;
  }

  /// The graph first; its hash and those of weights are still to come.
  ExportManifest manifest_of(const ExportPlan& plan, const DecoderGraph& decoder,
                             std::span<const StoreFile> kept) const {
    ExportManifest manifest{std::string(name_), plan.provenance, {{kOnnxModelName, ""}}, {}};
    for (const StoreFile& file : kept) manifest.files.push_back({file.name, hash_hex(file.text)});
    for (const OnnxWeight& weight : decoder.graph.weights())
      manifest.tensors.push_back({weight.name, kOnnxDataName, weight.offset, weight.bytes, ""});
    return manifest;
  }

  /// Parts are written while the next ones are made, and wait for that as long as together they take no more than those
  /// of the largest tensor.
  static MeantTensors write_weights(const ExportPlan& plan, const DecoderGraph& decoder, const ModelWeights& model,
                                    const fs::path& path, ExportManifest& manifest, Progress& progress) {
    MeantTensors meant(plan.tensors.size());
    std::vector<TensorSpec> order;
    for (const WeightSource& source : decoder.sources)
      if (source.tensor) order.push_back(plan.tensors[*source.tensor].spec);
    TensorWalk walk(model, std::move(order));
    OutputFile file(path);
    const auto bytes_of_source = [&](const WeightSource& source) {
      std::uint64_t bytes = 0;
      for (const OnnxWeight& part : std::span(decoder.graph.weights()).subspan(source.first, source.count))
        bytes += part.bytes;
      return bytes;
    };
    std::uint64_t largest = 0;
    for (const WeightSource& source : decoder.sources) largest = std::max(largest, bytes_of_source(source));
    Background writing(largest);
    std::size_t done = 0;
    progress.start("writing", decoder.sources.size());
    for (const WeightSource& source : decoder.sources) {
      const OnnxWeight* const weights = decoder.graph.weights().data() + source.first;
      auto parts = with_context(fmt::format("tensor '{}'", weights->name), [&] {
        const TensorValues values = source.tensor ? walk.at(plan.tensors[*source.tensor].spec) : TensorValues{};
        if (source.tensor)
          meant.note(*source.tensor, values.matrix ? TensorValues{densified(values.matrix), {}} : values);
        auto made = source.encode(values);
        if (made.size() != source.count) fail(ErrorKind::internal, "{} parts, not {}", made.size(), source.count);
        return made;
      });
      writing.run(
          [&file, &manifest, &source, weights, parts = std::move(parts)] {
            for (std::size_t p = 0; p < parts.size(); ++p)
              manifest.tensors[source.first + p].hash = put(file, weights[p], parts[p]);
          },
          bytes_of_source(source));
      progress.update(++done);
    }
    writing.wait();
    file.commit(Durable::later);
    return meant;
  }

  /// The hash of the bytes.
  static std::string put(OutputFile& file, const OnnxWeight& weight, std::span<const std::byte> bytes) {
    if (bytes.size() != weight.bytes)
      fail(ErrorKind::internal, "'{}' has {} bytes, not {}", weight.name, bytes.size(), weight.bytes);
    file.write(std::vector<std::byte>(weight.offset - file.bytes_written()));
    return hash_in_pieces(bytes, [&](std::span<const std::byte> piece) { file.write(piece); });
  }

  std::string_view name_;
  OnnxOperators operators_;
};

}  // namespace

std::unique_ptr<Exporter> make_onnx_exporter() {
  return std::make_unique<OnnxExporter>("onnx", OnnxOperators::onnxruntime);
}
std::unique_ptr<Exporter> make_onnx_qdq_exporter() {
  return std::make_unique<OnnxExporter>("onnx-qdq", OnnxOperators::standard);
}

}  // namespace adze
