#include "export/pack/pack_exporter.h"

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "base/background.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "export/compare_models.h"
#include "export/pack/pack_writer.h"
#include "export/tensor_walk.h"
#include "export/unverified_file.h"
#include "grid/coded/coded_payload.h"
#include "grid/format.h"
#include "model/pack/pack_weights.h"
#include "pack_c/adze_pack.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPackEntropyKey = "adze.entropy";

/// A tensor's record without its hashes.
PackTensor record_of(const PlannedTensor& tensor) {
  PackTensor made{tensor.spec.hf_name, tensor.spec.module, tensor.spec.role, tensor.spec.shape, tensor.format, {}};
  made.region.bytes = with_context(fmt::format("tensor '{}'", made.name), [&] { return made.payload_bytes(); });
  return made;
}

/// Everything of a pack but the bytes of its tensors; their hashes are still to come.
PackManifest manifest_of(const ExportPlan& plan) {
  if (plan.split_max_bytes > 0) fail(ErrorKind::bad_data, "a pack is one file: it cannot be split");
  check_pack_config(plan.files, plan.architecture);
  PackManifest manifest;
  manifest.name = plan.name;
  manifest.architecture = plan.architecture;
  for (const auto& pair : plan.provenance)
    if (!pair.second.empty()) manifest.provenance.push_back(pair);
  for (const StoreFile& file : plan.files) manifest.files.push_back({file.name, {0, file.text.size(), {}, {}}});
  for (const PlannedTensor& tensor : plan.tensors) manifest.tensors.push_back(record_of(tensor));
  place_regions(manifest);
  return manifest;
}

void check_values(const TensorValues& values, const PlannedTensor& planned) {
  if (!values.matrix) {
    if (planned.spec.shape != std::vector<std::uint64_t>{values.vector.size()} || planned.format != "f32")
      fail(ErrorKind::internal, "{} values in the model, which are not planned", values.vector.size());
    return;
  }
  const Shape shape = values.matrix->shape();
  if (values.matrix->format() != planned.format ||
      planned.spec.shape != std::vector<std::uint64_t>{shape.rows, shape.cols})
    fail(ErrorKind::internal, "{} x {} in {} in the model, which is not planned", shape.rows, shape.cols,
         values.matrix->format());
}

/// Matrices are coded; norms and biases are too small for tables.
std::vector<std::byte> coded(const TensorValues& values, CodingReport& codes) {
  CodedPayload payload = encode_payload(*values.matrix);
  codes += payload.report.codes;
  return std::move(payload.bytes);
}

std::string in_words(const CodingReport& codes) {
  const auto bits = [&](double all) { return all / static_cast<double>(codes.symbols); };
  return fmt::format("{:.3f} bits a code of {:.3f}; entropy {:.3f}, given what is known before it {:.3f}",
                     bits(codes.coded), bits(codes.raw), bits(codes.order0), bits(codes.conditional));
}

/// Finds out which tensors become smaller, and by how much. They are coded a second time when they are written: what is
/// coded the same way twice need not be kept.
void measure_coding(const ExportPlan& plan, const ModelWeights& model, PackManifest& manifest, Progress& progress) {
  TensorWalk walk(model);
  CodingReport codes;
  progress.start("measuring", plan.tensors.size());
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    with_context(fmt::format("tensor '{}'", plan.tensors[i].spec.hf_name), [&] {
      const TensorValues values = walk.at(plan.tensors[i].spec);
      check_values(values, plan.tensors[i]);
      if (!values.matrix) return;
      PackTensor& tensor = manifest.tensors[i];
      const std::uint64_t bytes = coded(values, codes).size();
      if (bytes >= tensor.region.bytes) return;
      tensor.region.bytes = bytes;
      tensor.encoding = PackEncoding::rans;
    });
    progress.update(i + 1);
  }
  if (codes.symbols > 0) {
    manifest.provenance.emplace_back(kPackEntropyKey, in_words(codes));
    progress.note(in_words(codes));
  }
  place_regions(manifest);
}

/// Tensors are written while the next ones are read, and wait for that as long as together they take no more than the
/// largest.
MeantTensors stream(const ExportPlan& plan, const ModelWeights& model, PackManifest& manifest, const fs::path& path,
                    Progress& progress) {
  MeantTensors meant(plan.tensors.size());
  PackWriter writer(path, manifest);
  for (std::size_t i = 0; i < plan.files.size(); ++i)
    writer.write(manifest.files[i].region, as_bytes(plan.files[i].text));
  TensorWalk walk(model, specs_of(plan));
  std::uint64_t largest = 0;
  for (const PackTensor& tensor : manifest.tensors) largest = std::max(largest, tensor.region.bytes);
  Background writing(largest);  // ends before what it writes to
  progress.start("writing", plan.tensors.size());
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    PackTensor& tensor = manifest.tensors[i];
    const std::string place = fmt::format("tensor '{}'", tensor.name);
    TensorValues values = with_context(place, [&] {
      TensorValues read = walk.at(plan.tensors[i].spec);
      check_values(read, plan.tensors[i]);
      meant.note(i, read);
      return read;
    });
    const std::uint64_t held = values.payload().size();
    writing.run(
        [&writer, &tensor, &hash = meant.hash(i), place, values = std::move(values)] {
          with_context(place, [&] {
            CodingReport again;
            if (tensor.encoding == PackEncoding::rans)
              writer.write(tensor.region, coded(values, again));
            else
              writer.write(tensor.region, values.payload(), hash);
          });
        },
        held);
    progress.update(i + 1);
  }
  writing.wait();
  writer.commit();
  return meant;
}

void require_same(bool same, std::string_view what) {
  if (!same) fail(ErrorKind::internal, "{} that were written are not those that were meant", what);
}

/// What the manifest says, read as every tool reads it.
void compare_manifests(const ExportPlan& plan, const fs::path& path) {
  const PackWeights written(path);
  const PackManifest& manifest = written.pack().manifest();
  Architecture meant = plan.architecture;
  meant.tied_stated = manifest.architecture.tied_stated;  // what the tensors decide need not be said
  require_same(manifest.architecture == meant, "the architecture's numbers");
  require_same(manifest.name == plan.name, "the letters of the name");
}

using PackInC = std::unique_ptr<adze_pack, decltype(&adze_pack_close)>;

std::span<const std::byte> bytes_of(const unsigned char* data, std::uint64_t bytes) {
  return {reinterpret_cast<const std::byte*>(data), static_cast<std::size_t>(bytes)};
}

void compare_files(const ExportPlan& plan, const adze_pack* pack) {
  require_same(adze_pack_file_count(pack) == plan.files.size(), "the files");
  for (std::size_t i = 0; i < plan.files.size(); ++i) {
    const adze_pack_file& file = *adze_pack_get_file(pack, i);
    require_same(file.name == plan.files[i].name &&
                     same_bytes(bytes_of(file.data, file.bytes), as_bytes(plan.files[i].text)) &&
                     adze_pack_verify_file(pack, &file, nullptr) == ADZE_PACK_OK,
                 "the files");
  }
}

bool is_planned(const adze_pack_tensor& stored, const PlannedTensor& planned) {
  std::vector<std::uint64_t> shape{stored.cols};
  if (stored.dimensions == 2) shape.insert(shape.begin(), stored.rows);
  return stored.name == planned.spec.hf_name && stored.module == planned.spec.module && shape == planned.spec.shape &&
         stored.format == planned.format;
}

/// Throws internal, naming the first byte of a payload that is not the model's.
void compare_payloads(std::span<const std::byte> written, std::span<const std::byte> meant) {
  const auto [left, right] = std::ranges::mismatch(written, meant);
  if (left == written.end() && right == meant.end()) return;
  fail(ErrorKind::internal, "byte {} of {} is not that of the model", left - written.begin(), meant.size());
}

/// Coded packs, which the reader in C does not read: every payload decoded, as every tool does it.
void verify_coded(const ExportPlan& plan, const ModelWeights& model, const MeantTensors& meant, const fs::path& path,
                  Progress& progress) {
  compare_manifests(plan, path);
  const PackWeights written(path);
  require_same(std::ranges::equal(written.files(), plan.files,
                                  [](const auto& a, const auto& b) { return a.name == b.name && a.text == b.text; }),
               "the files");
  TensorWalk walk(model);
  progress.start("verifying", plan.tensors.size());
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const TensorSpec& spec = plan.tensors[i].spec;
    with_context(fmt::format("tensor '{}'", spec.hf_name), [&] {
      const PackTensor* const stored = written.pack().find(spec.hf_name);
      require_same(stored != nullptr && stored->shape == spec.shape && stored->format == plan.tensors[i].format,
                   "the sizes and format");
      const std::vector<std::byte> payload = written.payload(*stored);
      if (!meant.is(i, stored->format, payload)) compare_payloads(payload, walk.at(spec).payload());
    });
    progress.update(i + 1);
  }
}

/// Reads the file back with the reader in C, which shares no code with what wrote it. A matrix is the same when format,
/// shape and bytes are.
void verify(const ExportPlan& plan, const ModelWeights& model, const MeantTensors& meant, const fs::path& path,
            Progress& progress) {
  compare_manifests(plan, path);
  adze_pack_error error{};
  const PackInC pack(adze_pack_open(path.c_str(), &error), &adze_pack_close);
  if (!pack) fail(ErrorKind::internal, "the reader in C refuses it: {}", error.message);
  compare_files(plan, pack.get());
  require_same(adze_pack_tensor_count(pack.get()) == plan.tensors.size(), "the tensors");
  const auto is_meant = [&](std::size_t i) {
    const adze_pack_tensor& stored = *adze_pack_get_tensor(pack.get(), i);
    return is_planned(stored, plan.tensors[i]) && adze_pack_verify(pack.get(), &stored, nullptr) == ADZE_PACK_OK &&
           meant.is(i, stored.format, bytes_of(stored.data, stored.bytes));
  };
  TensorWalk walk(model);
  progress.start("verifying", plan.tensors.size());
  constexpr std::size_t kBatch = 32;
  for (std::size_t first = 0; first < plan.tensors.size(); first += kBatch) {
    const std::size_t count = std::min(kBatch, plan.tensors.size() - first);
    std::array<bool, kBatch> done{};
    parallel_for(count, [&](std::size_t i) { done[i] = is_meant(first + i); });
    for (std::size_t i = first; i < first + count; ++i)
      if (!done[i - first])
        with_context(fmt::format("tensor '{}'", plan.tensors[i].spec.hf_name), [&] {
          const adze_pack_tensor& stored = *adze_pack_get_tensor(pack.get(), i);
          require_same(is_planned(stored, plan.tensors[i]), "the name, sizes and format");
          require_same(adze_pack_verify(pack.get(), &stored, nullptr) == ADZE_PACK_OK, "the checksums");
          compare_payloads(bytes_of(stored.data, stored.bytes), walk.at(plan.tensors[i].spec).payload());
        });
    progress.update(first + count);
  }
}

class PackExporter final : public Exporter {
 public:
  explicit PackExporter(PackEncoding encoding) : encoding_(encoding) {}

  std::optional<std::string> cannot_hold(const Architecture&, const PlannedTensor&) const override {
    return std::nullopt;
  }
  std::optional<std::string> remark(const Architecture&, const PlannedTensor&) const override { return std::nullopt; }

  bool size_depends_on_values() const override { return is_coded(); }
  std::uint64_t predict_bytes(const ExportPlan& plan) const override {
    // A region never grows; the manifest does by the words on entropy and two bytes a tensor.
    const std::uint64_t most = is_coded() ? kPackAlignment + kMostEntropyBytes + 2 * plan.tensors.size() : 0;
    return checked_add(manifest_of(plan).file_bytes, most);
  }

  OwnBytes own_bytes(const ExportPlan& plan) const override {
    const PackManifest whole = manifest_of(plan);
    return [end = whole.file_bytes, piece = whole.piece_bytes](const PlannedTensor& tensor) {
      return bytes_in_pack(record_of(tensor), end, piece);
    };
  }

  std::vector<fs::path> files(const ExportPlan&, const fs::path& path) const override { return {path}; }

  void write(const ExportPlan& plan, const ModelWeights& model, const fs::path& path,
             Progress& progress) const override {
    with_context(path.string(), [&] {
      PackManifest manifest = manifest_of(plan);
      if (is_coded()) measure_coding(plan, model, manifest, progress);
      UnverifiedFile file(path);
      const MeantTensors meant = stream(plan, model, manifest, file.path(), progress);
      file.begin_sync();
      if (is_coded())
        verify_coded(plan, model, meant, file.path(), progress);
      else
        verify(plan, model, meant, file.path(), progress);
      file.publish();
    });
  }

 private:
  static constexpr std::uint64_t kMostEntropyBytes = 256;

  bool is_coded() const { return encoding_ == PackEncoding::rans; }

  PackEncoding encoding_;
};

}  // namespace

std::unique_ptr<Exporter> make_pack_exporter() { return std::make_unique<PackExporter>(PackEncoding::raw); }
std::unique_ptr<Exporter> make_pack_entropy_exporter() { return std::make_unique<PackExporter>(PackEncoding::rans); }

}  // namespace adze
