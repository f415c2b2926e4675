// adze-export: a compressed model, or a checkpoint as it is, becomes a file that other runtimes load.
#include <malloc.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/words.h"
#include "calibrate/imatrix_statistics.h"
#include "export/exporter.h"
#include "grid/nested/nested_tensor.h"
#include "linalg/gemm.h"
#include "model/nested_view.h"
#include "pipeline/open_model.h"
#include "pipeline/work_folder.h"
#include "tool.h"

namespace {

using namespace adze;

struct Options {
  std::string model;
  std::string format = "gguf";
  std::string out;
  std::string split_max_size;
  int planes = 0;  ///< of nested codes; 0: all
  std::string kv_cache;
  bool overwrite = false;
  bool dry_run = false;
  OpenModelOptions open;
};

const ExporterInfo& exporter_named(const std::string& name) {
  if (const ExporterInfo* info = find_exporter(name)) return *info;
  std::vector<std::string> names;
  for (const ExporterInfo& info : exporters()) names.emplace_back(info.name);
  fail(ErrorKind::usage, "unknown format '{}'{}; formats are {}", name, suggestion(name, names), join_words(names));
}

/// A text of the manifest. It is foreign bytes by now: anybody may have edited it.
std::string manifest_member(const nlohmann::json& manifest, const std::string& path, const char* section,
                            const char* key) {
  const nlohmann::json::json_pointer place(fmt::format("/{}/{}", section, key));
  if (!manifest.is_object() || !manifest.contains(place) || !manifest.at(place).is_string())
    fail(ErrorKind::bad_data, "{}: '{}.{}' is missing or no text; the manifest is damaged", path, section, key);
  return manifest.at(place).get<std::string>();
}

/// The leading planes of a model of nested codes. Throws bad_data for one that has none.
std::unique_ptr<ModelWeights> view_of(const ModelWeights& weights, int planes) {
  auto view = std::make_unique<NestedView>(weights, planes);
  for (const PlannedTensor& tensor : planned_tensors(*view))
    if (parse_nested_format(tensor.format)) return view;
  fail(ErrorKind::bad_data, "--planes {}: the model has no nested codes; solver nested makes them", planes);
}

ExportPlan plan_export(const OpenedModel& model, const ModelWeights& weights) {
  if (!model.tokenizer_problem.empty()) fail(ErrorKind::bad_data, "{}", model.tokenizer_problem);
  ExportPlan plan{model.architecture(),
                  planned_tensors(weights),
                  model.tokenizer ? &*model.tokenizer : nullptr,
                  model.files,
                  model.name,
                  {}};
  plan.provenance.emplace_back("adze.version", ADZE_VERSION);
  for (const auto& pair : model.provenance)
    if (pair.first != "adze.version") plan.provenance.push_back(pair);
  if (model.kind != ModelKind::compressed) return plan;
  // The same keys as the run itself writes, so that exporting again gives the same bytes.
  const std::string path = (model.path / kManifestName).string();
  const nlohmann::json manifest = parse_json(read_file(path), path);
  plan.name = manifest_member(manifest, path, "model", "name");
  plan.provenance.emplace_back("adze.recipe", manifest_member(manifest, path, "recipe", "hash"));
  plan.provenance.emplace_back("adze.calibration", manifest_member(manifest, path, "calibration", "hash"));
  return plan;
}

std::uint64_t split_max_bytes(const Options& options) {
  if (options.split_max_size.empty()) return 0;
  const auto bytes = parse_bytes(options.split_max_size);
  if (!bytes || *bytes == 0)
    fail(ErrorKind::usage, "--split-max-size {}: write a number and a unit, such as 2GiB", options.split_max_size);
  return *bytes;
}

/// Throws bad_data for a model that knows no maxima.
CacheScales cache_scales(const Options& options, const Exporter& exporter, const ModelWeights& weights) {
  if (options.kv_cache.empty()) return CacheScales::none;
  const auto scales = cache_scales_from_name(options.kv_cache);
  if (!scales) fail(ErrorKind::usage, "--kv-cache {}: there is fp8", options.kv_cache);
  if (!exporter.holds_cache_scales())
    fail(ErrorKind::usage, "--kv-cache: {} has no place for scales of a cache; compressed-tensors has", options.format);
  for (std::size_t block = 0; block < weights.architecture().layers; ++block)
    if (!weights.cache_of(block)) fail(ErrorKind::bad_data, "{}: {}", options.model, no_cache_maxima(block));
  return *scales;
}

/// Readers go by the name: a model under another one is not opened again, or as something else.
void require_suffix(const std::string& format, const std::string& out) {
  if (format == "gguf" && std::filesystem::path(out).extension() != ".gguf")
    fail(ErrorKind::usage, "{}: the name of a GGUF file must end with .gguf", out);
}

/// is_bound: the bytes are the most that it can be.
void print_result(const Options& options, std::span<const std::filesystem::path> files, std::uint64_t bytes,
                  bool is_bound, const Tool& tool) {
  if (tool.options().json) {
    std::vector<std::string> names;
    for (const auto& file : files) names.push_back(file.string());
    Tool::print(
        nlohmann::json{{"file", names.front()}, {"files", names}, {"format", options.format}, {"bytes", bytes}}.dump(
            1) +
        "\n");
    return;
  }
  Tool::print(fmt::format("{}: {}{}{} bytes ({}){}\n", files.front().string(),
                          files.size() == 1 ? "" : fmt::format("{} files, ", files.size()), is_bound ? "at most " : "",
                          bytes, bytes_in_words(bytes), options.dry_run ? ", not written" : ", written and read back"));
}

void export_imatrix(const Options& options, const Tool& tool) {
  const ImatrixKind kind = imatrix_kind_of(options.out);
  if (!options.overwrite && std::filesystem::exists(options.out))
    fail(ErrorKind::cannot_create, "{}: exists; replace it with --overwrite", options.out);
  if (!options.split_max_size.empty() || options.dry_run)
    fail(ErrorKind::usage, "statistics become one importance matrix: neither --split-max-size nor --dry-run");
  const Imatrix imatrix = imatrix_of(StatisticsFolder(options.model), kind);
  write_imatrix(options.out, imatrix, kind);
  const std::uint64_t bytes = std::filesystem::file_size(options.out);
  if (tool.options().json)
    Tool::print(nlohmann::json{{"file", options.out}, {"format", "imatrix"}, {"bytes", bytes}}.dump(1) + "\n");
  else
    Tool::print(
        fmt::format("{}: importance matrix of {} tensors, {} bytes\n", options.out, imatrix.entries.size(), bytes));
}

/// The first part of the heap, which matrices come from one after the other, is of huge pages where the kernel has
/// them: a page of 4 KiB takes longer to fault in than to fill.
void begin_heap_with_huge_pages() {
  constexpr int kFirstPart = 256 << 20, kHugePage = 2 << 20;
  mallopt(M_TOP_PAD, kFirstPart);
  void* const block = std::malloc(kHugePage);  // the heap grows, by that and kFirstPart
  const auto address = reinterpret_cast<std::uintptr_t>(block);
  const std::size_t to_page = (kHugePage - address % kHugePage) % kHugePage;
  (void)::madvise(static_cast<std::byte*>(block) + to_page, kFirstPart, MADV_HUGEPAGE);  // advice: may be refused
  std::free(block);
}

void run_export(const Options& options, Tool& tool) {
  keep_freed_memory();
  begin_heap_with_huge_pages();
  use_single_threaded_blas();  // now: of two cores its threads would take one
  if (is_statistics_folder(options.model)) return export_imatrix(options, tool);
  const ExporterInfo& info = exporter_named(options.format);
  const auto exporter = info.make();
  require_suffix(options.format, options.out);
  const OpenedModel model = open_model(options.model, options.open);
  if (const std::string remark = left_out_remark(model); !remark.empty()) tool.progress().warn(remark);
  if (const auto reason = cannot_list(info, model.architecture()))
    fail(ErrorKind::bad_data, "{}: {}", options.model, *reason);
  std::error_code ignored;
  if (std::filesystem::equivalent(options.out, options.model, ignored))
    fail(ErrorKind::cannot_create, "{}: is the model itself; choose another -o", options.out);
  const bool has_parts = options.format == "gguf" && !options.split_max_size.empty();  // of names of their own
  if (!has_parts && !options.overwrite && std::filesystem::exists(options.out))
    fail(ErrorKind::cannot_create, "{}: exists; replace it with --overwrite", options.out);
  const std::unique_ptr<ModelWeights> view = options.planes > 0 ? view_of(*model.weights, options.planes) : nullptr;
  const ModelWeights& weights = view ? *view : *model.weights;
  ExportPlan plan = plan_export(model, weights);
  plan.split_max_bytes = split_max_bytes(options);
  for (const PlannedTensor& tensor : plan.tensors)
    if (const auto reason = exporter->cannot_hold(plan.architecture, tensor)) fail(ErrorKind::bad_data, "{}", *reason);
  plan.cache = cache_scales(options, *exporter, weights);
  std::uint64_t bytes = exporter->predict_bytes(plan);
  const std::vector<std::filesystem::path> files = exporter->files(plan, options.out);
  for (const auto& file : files)
    if (!options.overwrite && std::filesystem::exists(file))
      fail(ErrorKind::cannot_create, "{}: exists; replace it with --overwrite", file.string());
  if (!options.dry_run) exporter->write(plan, weights, options.out, tool.progress());
  if (!options.dry_run && exporter->size_depends_on_values()) {
    bytes = 0;
    for (const auto& file : files) bytes += std::filesystem::file_size(file);
  }
  const bool is_bound = options.dry_run && exporter->size_depends_on_values();
  print_result(options, files, bytes, is_bound, tool);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  Tool tool(
      "adze-export",
      "Writes a compressed model, or a checkpoint as it is, in the format of a runtime, reads it back and compares\n"
      "every tensor: gguf, pack and pack-entropy (files), compressed-tensors, compressed-tensors-w8a8, gptq, awq, "
      "mlx,\n"
      "onnx, onnx-qdq, safetensors (folders). Statistics become an importance matrix (.gguf or .dat).",
      "  adze export OUT --format gguf -o model.gguf\n  adze export MODEL -o original-bf16.gguf\n"
      "  adze export OUT --format compressed-tensors -o model-w4a16\n  adze export GPTQ --format awq -o model-awq\n"
      "  adze export OUT --format pack -o model.adze\n  adze export NESTED --planes 4 --format pack -o small.adze\n"
      "  adze export OUT --format onnx -o model-onnx\n"
      "  adze export OUT -o model.gguf --split-max-size 2GiB\n  adze export STATS -o imatrix.gguf");
  tool.app()
      .add_option("model", options.model,
                  "output folder of adze-compress, a checkpoint (packed too), a GGUF file, a pack, or statistics")
      ->required();
  tool.app().add_option("--format", options.format, "the runtime's format")->capture_default_str();
  tool.app().add_option("-o,--output", options.out, "the file, or folder, to write")->required();
  tool.app().add_option("--split-max-size", options.split_max_size,
                        "several files of at most this size, such as 2GiB: NAME-00001-of-00003.gguf ...");
  tool.app()
      .add_option("--planes", options.planes,
                  "of nested codes the leading bits alone: the 4-bit model of an 8-bit one, say")
      ->check(CLI::Range(1, 8));
  tool.app().add_option("--kv-cache", options.kv_cache,
                        "fp8: scales for a runtime's cache of keys and values too (compressed-tensors)");
  tool.app().add_flag("--overwrite", options.overwrite, "replace an existing file");
  tool.app().add_flag("--dry-run", options.dry_run, "check everything, print the exact size, write nothing");
  add_model_options(tool.app(), options.open);
  add_weights_only_option(tool.app(), options.open);
  return tool.run(argc, argv, [&] { run_export(options, tool); });
}
