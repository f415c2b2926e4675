#include "export/gguf/gguf_exporter.h"

#include <algorithm>
#include <deque>
#include <optional>

#include "base/background.h"
#include "base/byte_array.h"
#include "base/error.h"
#include "export/compare_models.h"
#include "export/gguf/piece_scores.h"
#include "export/gguf/split.h"
#include "export/gguf/storage.h"
#include "export/gguf/verify.h"
#include "export/tensor_walk.h"
#include "export/unverified_file.h"
#include "grid/format.h"
#include "model/gguf_rules.h"
#include "model/gguf_weights.h"
#include "text/tokenizer.h"

namespace adze {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{8} << 20;  // encoded at a time

/// Writes the parts one after the other, while the caller makes what comes next: each is opened for its first tensor
/// and committed after its last.
class PartsWriter {
 public:
  PartsWriter(std::span<const GgufPart> parts, std::span<const std::filesystem::path> paths)
      : parts_(parts), paths_(paths), writing_(2 * kPieceBytes) {
    open(0);
  }

  void begin_tensor() {
    writing_.run([this] { go_on(); }, 0);
  }
  /// All bytes of the tensor, or pieces in order.
  void write(std::string tensor, ByteArray bytes) {
    const std::uint64_t held = bytes.size();
    writing_.run([this, name = std::move(tensor), piece = std::move(bytes)] { writer_->write(name, piece); }, held);
  }
  void write(std::string tensor, std::span<const float> values) {
    write(std::move(tensor), copied(std::as_bytes(values)));
  }
  void commit() {
    writing_.wait();
    writer_->commit(Durable::later);
  }

 private:
  void open(std::size_t part) {
    part_ = part;
    written_ = 0;
    writer_.emplace(paths_[part], parts_[part].metadata, parts_[part].tensors);
  }
  void go_on() {
    while (written_ == parts_[part_].tensors.size()) {
      writer_->commit(Durable::later);
      open(part_ + 1);
    }
    ++written_;
  }

  std::span<const GgufPart> parts_;
  std::span<const std::filesystem::path> paths_;
  std::size_t part_ = 0;
  std::size_t written_ = 0;  ///< tensors of this part
  std::optional<GgufWriter> writer_;
  Background writing_;  ///< uses all above
};

void write_matrix(PartsWriter& writer, const TensorSpec& spec, const GgufStorage& storage,
                  const CompressedTensor& matrix) {
  std::vector<std::size_t> order = gguf_row_order(matrix.shape().rows, spec.permuted_heads);
  order.erase(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(spec.gguf_rows.absent));
  const std::size_t row_bytes = gguf_row_bytes(*storage.type, matrix.shape().cols);
  const std::size_t piece_rows = std::max<std::size_t>(1, kPieceBytes / row_bytes);
  for (std::size_t first = 0; first < order.size(); first += piece_rows) {
    const auto rows = std::span(order).subspan(first, std::min(piece_rows, order.size() - first));
    ByteArray piece(rows.size() * row_bytes);
    encode_gguf_rows(storage, matrix, rows, piece);
    writer.write(spec.gguf_name, std::move(piece));
  }
}

/// offset: of norms, which a GGUF has with what the family adds to them.
void write_vector(PartsWriter& writer, const TensorSpec& spec, float offset, std::span<const float> values) {
  std::vector<float> ordered;
  for (const std::size_t from : gguf_row_order(values.size(), spec.permuted_heads))
    ordered.push_back(values[from] + offset);
  writer.write(spec.gguf_name, ordered);
}

void check_planned(const TensorValues& values, const PlannedTensor& planned) {
  const std::vector<std::uint64_t>& shape = planned.spec.shape;
  if (!values.matrix) {
    if (shape != std::vector<std::uint64_t>{values.vector.size()})
      fail(ErrorKind::internal, "{} values in the model, {} planned", values.vector.size(), shape.front());
    return;
  }
  const Shape actual = values.matrix->shape();
  if (values.matrix->format() != planned.format || shape != std::vector<std::uint64_t>{actual.rows, actual.cols})
    fail(ErrorKind::internal, "{} x {} in {} in the model, {} x {} in {} planned", actual.rows, actual.cols,
         values.matrix->format(), shape.front(), shape.back(), planned.format);
}

/// What the tensors were in the model, for the comparison.
MeantTensors stream_files(PartsWriter& writer, const ExportPlan& plan, const GgufContent& content,
                          const ModelWeights& model, Progress& progress) {
  MeantTensors meant(plan.tensors.size());
  std::vector<TensorSpec> order;
  for (const std::vector<std::size_t>& members : content.members)
    for (const std::size_t i : members) order.push_back(plan.tensors[i].spec);
  TensorWalk walk(model, std::move(order));
  const float norm_offset = plan.architecture.info().norm_offset;
  progress.start("writing", plan.tensors.size());
  std::size_t written = 0;
  for (const std::vector<std::size_t>& members : content.members) {
    writer.begin_tensor();
    for (const std::size_t i : members) {
      const PlannedTensor& planned = plan.tensors[i];
      const TensorValues values = with_context(fmt::format("tensor '{}'", planned.spec.hf_name), [&] {
        TensorValues read = walk.at(planned.spec);
        check_planned(read, planned);
        return read;
      });
      meant.note(i, values);
      if (values.matrix)
        write_matrix(writer, planned.spec, content.storages[i], *densified(values.matrix));
      else
        write_vector(writer, planned.spec, planned.spec.role == TensorRole::norm ? norm_offset : 0.0f, values.vector);
      progress.update(++written);
    }
  }
  for (const GgufVector& divisors : content.rope_divisors) {
    writer.begin_tensor();
    writer.write(divisors.name, divisors.values);
  }
  for (const std::vector<std::size_t>& members : content.members)
    if (content.storages[members.front()].scale) {
      std::vector<float> scales;
      for (const std::size_t i : members) scales.push_back(*content.storages[i].scale);
      writer.begin_tensor();
      writer.write(gguf_scale_name(plan.tensors[members.front()].spec), scales);
    }
  writer.commit();
  return meant;
}

/// Empty when the window, if there is one, covers all positions: then it changes nothing.
std::string window_remark(const Architecture& architecture) {
  if (architecture.info().window.in_gguf) return "";
  if (architecture.sliding_window == 0 || architecture.sliding_window >= architecture.max_positions) return "";
  return fmt::format(
      "the runtime has no sliding window for this architecture; beyond {} tokens it attends to all of them",
      architecture.sliding_window);
}

/// Gemma's scale of the embedding, rounded to the model's dtype, which the runtime does not round.
std::string scale_remark(const Architecture& architecture) {
  const double scale = gguf_embedding_scale(architecture);
  if (architecture.embedding_scale == scale) return "";
  return fmt::format("the runtime scales the embedding by {:.6g}, the model by {:.6g}", scale,
                     architecture.embedding_scale);
}

/// Of the whole file.
std::string file_remark(const Architecture& architecture) {
  const std::string window = window_remark(architecture), scale = scale_remark(architecture);
  return window + (window.empty() || scale.empty() ? "" : "; ") + scale;
}

std::vector<std::filesystem::path> part_paths(const std::filesystem::path& path, std::size_t count) {
  std::vector<std::filesystem::path> paths;
  for (std::size_t i = 0; i < count; ++i) paths.push_back(gguf_part_path(path, i, count));
  return paths;
}

class GgufExporter final : public Exporter {
 public:
  std::optional<std::string> cannot_hold(const Architecture& architecture, const PlannedTensor& tensor) const override {
    if (tensor.spec.role == TensorRole::embedding)  // of the whole file, but said once
      if (auto reason = gguf_refuses(architecture)) return reason;
    GgufStorage storage = gguf_storage(tensor);
    return storage.type ? std::nullopt : std::optional(std::move(storage.reason));
  }

  std::optional<std::string> remark(const Architecture& architecture, const PlannedTensor& tensor) const override {
    // Of the whole file, but said once: with the embedding, which every model has.
    std::string text = tensor.spec.role == TensorRole::embedding ? file_remark(architecture) : "";
    const GgufStorage storage = gguf_storage(tensor);
    if (storage.type != nullptr && (storage.repack || dense_format(tensor.format) != tensor.format))
      text += fmt::format("{}{}: {} {} {} at {} bits per weight", text.empty() ? "" : "; ", tensor.spec.module,
                          tensor.format,
                          is_composed(tensor.format) ? "is multiplied out and rounded to" : "is stored exactly as",
                          storage.type->name, storage.type->bits_per_weight());
    return text.empty() ? std::nullopt : std::optional(std::move(text));
  }

  bool stacks_experts() const override { return true; }

  std::uint64_t predict_bytes(const ExportPlan& plan) const override {
    return predict_gguf_bytes(split_gguf(gguf_content(plan), plan.split_max_bytes));
  }

  OwnBytes own_bytes(const ExportPlan& plan) const override {
    return [&plan](const PlannedTensor& tensor) { return gguf_own_bytes(plan.architecture, tensor); };
  }

  std::vector<std::filesystem::path> files(const ExportPlan& plan, const std::filesystem::path& path) const override {
    return part_paths(path, split_gguf(gguf_content(plan), plan.split_max_bytes).size());
  }

  void write(const ExportPlan& plan, const ModelWeights& model, const std::filesystem::path& path,
             Progress& progress) const override {
    const GgufContent content = with_context(path.string(), [&] { return gguf_content(plan); });
    for (const std::string& remark : {file_remark(plan.architecture), character_remark(plan.tokenizer->vocabulary())})
      if (!remark.empty()) progress.warn(fmt::format("{}: {}", path.string(), remark));
    const std::vector<GgufPart> parts =
        with_context(path.string(), [&] { return split_gguf(content, plan.split_max_bytes); });
    std::deque<UnverifiedFile> files;
    std::vector<std::filesystem::path> unverified;
    for (const std::filesystem::path& part : part_paths(path, parts.size()))
      unverified.push_back(files.emplace_back(part).path());
    PartsWriter writer(parts, unverified);
    const MeantTensors meant = stream_files(writer, plan, content, model, progress);
    for (UnverifiedFile& file : files) file.begin_sync();
    verify_gguf(unverified, parts, plan, model, meant, progress);
    for (auto file = files.rbegin(); file != files.rend(); ++file) file->publish();  // the first one says: complete
  }
};

}  // namespace

std::unique_ptr<Exporter> make_gguf_exporter() { return std::make_unique<GgufExporter>(); }

}  // namespace adze
