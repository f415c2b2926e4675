#include "pipeline/delta/make_delta.h"

#include <algorithm>
#include <array>
#include <map>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "export/pack/pack_writer.h"
#include "export/tensor_walk.h"
#include "export/unverified_file.h"
#include "metrics/proxy_loss.h"
#include "model/pack/pack_weights.h"
#include "pipeline/apply_scheme.h"
#include "solve/delta/delta.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

bool is_table(const PackTensor& tensor) {
  return tensor.role == TensorRole::embedding || tensor.role == TensorRole::head ||
         tensor.role == TensorRole::positions;
}
bool is_vector(const PackTensor& tensor) { return tensor.shape.size() == 1; }

/// A vector as one row.
MatrixF values_of(const TensorValues& values) {
  if (values.matrix) return values.matrix->decode();
  MatrixF row(1, values.vector.size());
  std::ranges::copy(values.vector, row.values().begin());
  return row;
}

std::span<const std::byte> payload_of(const TensorValues& values) {
  return values.matrix ? values.matrix->payload() : std::as_bytes(std::span(values.vector));
}

/// Both texts and what they stand for: the delta of one vocabulary on the base of another would be read with one.
void check_same_vocabulary(const OpenedModel& base, const OpenedModel& tuned) {
  if (!base.tokenizer || !tuned.tokenizer) return;
  if (const auto id = first_difference(base.tokenizer->vocabulary(), tuned.tokenizer->vocabulary()))
    fail(ErrorKind::bad_data, "{} and {}: their vocabularies differ at id {}; a delta needs the same in both",
         base.path.string(), tuned.path.string(), *id);
}

void check_same_structure(const OpenedModel& base, const OpenedModel& tuned) {
  const std::string difference = structure_difference(base.architecture(), tuned.architecture());
  if (!difference.empty())
    fail(ErrorKind::bad_data, "{} and {} differ in more than their weights: {}", base.path.string(),
         tuned.path.string(), difference);
}

/// Compares the models tensor by tensor and decides what is stored of each.
class Comparison {
 public:
  Comparison(PreparedDelta& prepared, const DeltaOptions& options)
      : prepared_(prepared), options_(options), walk_(*prepared.tuned->weights) {}

  void run(Progress& progress) {
    const std::vector<TensorSpec> specs = expected_tensors(prepared_.tuned->architecture());
    progress.start("comparing", specs.size());
    for (std::size_t i = 0; i < specs.size(); ++i) {
      prepared_.manifest.tensors.push_back(
          with_context(fmt::format("tensor '{}'", specs[i].hf_name), [&] { return compared(specs[i]); }));
      progress.update(i + 1);
    }
  }

 private:
  PackTensor compared(const TensorSpec& spec) {
    PackTensor made{spec.hf_name, spec.module, spec.role, spec.shape, "", {}};
    const TensorValues tuned = walk_.at(spec);
    const TensorPtr base = load_tensor(*prepared_.base.source, made.name, made.matrix_shape());
    made.base_hash = tensor_hash(made.name, *base);
    if (values_of(tuned) == base->decode()) {
      made.encoding = PackEncoding::same;
      made.format = kSameFormat;
    } else if (is_vector(made) || (is_table(made) && !options_.tables)) {
      made.format = tuned.matrix ? tuned.matrix->format() : "f32";
    } else {
      made.encoding = PackEncoding::delta;
      if (const auto reason = prepared_.method->cannot_make(made.matrix_shape()))
        fail(ErrorKind::bad_data, "{}", *reason);
      made.format = prepared_.method->format(made.module, made.matrix_shape());
    }
    made.region.bytes = made.payload_bytes();
    return made;
  }

  PreparedDelta& prepared_;
  const DeltaOptions& options_;
  TensorWalk walk_;
};

/// Deltas of one input: of a block's stage, or a table alone.
struct Group {
  std::vector<std::size_t> members;  ///< indices of tensors
  std::optional<std::size_t> part;   ///< of the statistics; nothing: none are measured of it
  std::string input;
};

class DeltaWriter {
 public:
  DeltaWriter(const PreparedDelta& prepared, Progress& progress)
      : prepared_(prepared),
        manifest_(prepared.manifest),
        specs_(expected_tensors(prepared.tuned->architecture())),
        walk_(*prepared.tuned->weights),
        progress_(progress),
        records_(specs_.size()) {}

  std::vector<DeltaRecord> write(const fs::path& path) {
    UnverifiedFile file(path);
    {
      PackWriter writer(file.path(), manifest_);
      const std::vector<StoreFile>& files = prepared_.tuned->files;
      for (std::size_t i = 0; i < files.size(); ++i) writer.write(manifest_.files[i].region, as_bytes(files[i].text));
      progress_.start("storing", specs_.size());
      for (std::size_t i = 0; i < specs_.size(); ++i) {
        with_context(fmt::format("tensor '{}'", specs_[i].hf_name), [&] { write_tensor(i, writer); });
        progress_.update(i + 1);
      }
      writer.commit();
    }
    verify(file.path());
    file.publish();
    return std::move(records_);
  }

  /// Relative variances above kMostDropVariance.
  const std::vector<double>& too_wide() const { return too_wide_; }

 private:
  void write_tensor(std::size_t i, PackWriter& writer) {
    PackTensor& tensor = manifest_.tensors[i];
    records_[i].module = specs_[i].module;
    records_[i].format = tensor.format;
    records_[i].weights = tensor.matrix_shape().count();
    records_[i].bytes = tensor.region.bytes;
    if (tensor.encoding == PackEncoding::same) return writer.write(tensor.region, {});
    if (tensor.encoding == PackEncoding::raw) return writer.write(tensor.region, payload_of(walk_.at(specs_[i])));
    if (!solved_.contains(i)) solve(group_of(i));
    const TensorPtr stored = solved_.extract(i).mapped();
    if (stored->format() != tensor.format)
      fail(ErrorKind::internal, "is stored as '{}', planned was '{}'", stored->format(), tensor.format);
    writer.write(tensor.region, stored->payload());
  }

  Group group_of(std::size_t i) const {
    const TensorSpec& spec = specs_[i];
    if (spec.role == TensorRole::embedding || spec.role == TensorRole::positions) return {{i}, std::nullopt, ""};
    if (spec.role == TensorRole::head) return {{i}, prepared_.tuned->architecture().layers, "head"};
    Group group{{}, spec.block, std::string(name_of(*spec.stage()))};
    for (std::size_t k = 0; k < specs_.size(); ++k)
      if (specs_[k].block == spec.block && manifest_.tensors[k].encoding == PackEncoding::delta &&
          specs_[k].stage() == spec.stage())
        group.members.push_back(k);
    return group;
  }

  MatrixD hessian_of(const Group& group, std::size_t inputs) const {
    if (!prepared_.statistics || !group.part) return {};
    InputStatistics measured = prepared_.statistics->part(*group.part).read(group.input);
    if (measured.inputs() != inputs)
      fail(ErrorKind::bad_data, "statistics of '{}' are of {} inputs, the weights have {}", group.input,
           measured.inputs(), inputs);
    return std::move(measured.second_moment);
  }

  void solve(const Group& group) {
    std::vector<MatrixF> tuned, deltas;
    DeltaProblem problem;
    for (const std::size_t i : group.members) {
      tuned.push_back(values_of(walk_.at(specs_[i])));
      deltas.push_back(delta_of(tuned.back(), prepared_.base.tensor(manifest_, manifest_.tensors[i])->decode()));
      problem.modules.push_back(specs_[i].module);
    }
    problem.deltas.assign(deltas.begin(), deltas.end());
    const MatrixD hessian = hessian_of(group, deltas.front().cols());
    problem.hessian = hessian;
    std::vector<Solution> solutions = prepared_.method->solve(problem);
    for (std::size_t k = 0; k < solutions.size(); ++k) {
      const std::size_t i = group.members[k];
      report(records_[i], solutions[k].report, deltas[k], tuned[k], hessian);
      solved_[i] = std::move(solutions[k].tensor);
    }
  }

  void report(DeltaRecord& record, const SolveReport& report, ConstViewF delta, ConstViewF tuned, ConstViewD hessian) {
    record.is_delta = true;
    record.report = report;
    if (!report.fallback.empty()) progress_.warn(fmt::format("{}: {}", record.module, report.fallback));
    double energy = 0;
    for (const double row : row_losses(tuned, MatrixF(tuned.shape()), hessian)) energy += row;
    record.relative_loss = energy > 0 ? report.loss / energy : 0;
    const double probability = prepared_.method->drop_probability();
    if (probability == 0) return;
    record.relative_variance = relative_drop_variance(delta, tuned, hessian, probability);
    if (record.relative_variance > kMostDropVariance) too_wide_.push_back(record.relative_variance);
  }

  /// Every byte against the hash of what was meant, and every tensor decoded.
  void verify(const fs::path& path) {
    const PackWeights written(path);
    const PackManifest& manifest = written.pack().manifest();
    progress_.start("verifying", manifest.tensors.size());
    for (std::size_t i = 0; i < manifest.tensors.size(); ++i) {
      const PackTensor& tensor = manifest.tensors[i];
      if (tensor.region.hash != manifest_.tensors[i].region.hash || !written.pack().damage(tensor.region).empty())
        fail(ErrorKind::internal, "{}: the bytes of tensor '{}' are not those that were meant", path.string(),
             tensor.name);
      if (tensor.encoding != PackEncoding::same) written.stored(tensor);
      progress_.update(i + 1);
    }
  }

  const PreparedDelta& prepared_;
  PackManifest manifest_;
  std::vector<TensorSpec> specs_;
  TensorWalk walk_;
  Progress& progress_;
  std::vector<DeltaRecord> records_;
  std::map<std::size_t, TensorPtr> solved_;  ///< by index; taken out when they are written
  std::vector<double> too_wide_;
};

}  // namespace

PreparedDelta prepare_delta(const OpenedModel& base, const OpenedModel& tuned, const DeltaMethod& method,
                            const std::optional<fs::path>& statistics, const DeltaOptions& options,
                            Progress& progress) {
  PreparedDelta prepared{&base, &tuned, &method, base_model(base), std::nullopt, {}};
  check_same_structure(base, tuned);
  check_same_vocabulary(base, tuned);
  if (statistics) {
    prepared.statistics.emplace(*statistics);
    check_same_model(*prepared.statistics, tuned.architecture());
  }
  PackManifest& manifest = prepared.manifest;
  manifest.name = tuned.name;
  manifest.architecture = tuned.architecture();
  manifest.provenance = {{"adze.version", ADZE_VERSION}, {"adze.delta", method.description()}};
  if (prepared.statistics)
    manifest.provenance.emplace_back("adze.calibration", prepared.statistics->info().calibration);
  check_pack_config(tuned.files, manifest.architecture);
  for (const StoreFile& file : tuned.files) manifest.files.push_back({file.name, {0, file.text.size(), {}, {}}});
  Comparison(prepared, options).run(progress);
  manifest.base = {base.name.empty() ? "base" : base.name, hash_of_base(manifest.tensors)};
  place_regions(manifest);
  return prepared;
}

std::vector<DeltaRecord> write_delta(const PreparedDelta& prepared, const fs::path& path, Progress& progress) {
  return with_context(path.string(), [&] {
    DeltaWriter writer(prepared, progress);
    std::vector<DeltaRecord> records = writer.write(path);
    if (const std::vector<double>& wide = writer.too_wide(); !wide.empty())
      progress.warn(
          fmt::format("{} matrices differ by more than DARE is good for: what is dropped adds up to {:.3g} of "
                      "their output's energy, {} is the most that is known to do no harm; drop less",
                      wide.size(), std::ranges::max(wide), kMostDropVariance));
    return records;
  });
}

}  // namespace adze
