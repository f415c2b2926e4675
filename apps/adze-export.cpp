// adze-export: a compressed model, or a checkpoint as it is, becomes a file that other runtimes load.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/words.h"
#include "export/exporter.h"
#include "pipeline/open_model.h"
#include "pipeline/work_folder.h"
#include "tool.h"

namespace {

using namespace adze;

struct Options {
  std::string model;
  std::string format = "gguf";
  std::string out;
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

ExportPlan plan_export(const OpenedModel& model) {
  ExportPlan plan{model.architecture(),
                  planned_tensors(*model.weights),
                  model.tokenizer ? &*model.tokenizer : nullptr,
                  model.files,
                  model.name,
                  {}};
  plan.provenance.emplace_back("adze.version", ADZE_VERSION);
  if (model.kind != ModelKind::compressed) return plan;
  // The same keys as the run itself writes, so that exporting again gives the same bytes.
  const std::string path = (model.path / kManifestName).string();
  const nlohmann::json manifest = parse_json(read_file(path), path);
  plan.name = manifest_member(manifest, path, "model", "name");
  plan.provenance.emplace_back("adze.recipe", manifest_member(manifest, path, "recipe", "hash"));
  plan.provenance.emplace_back("adze.calibration", manifest_member(manifest, path, "calibration", "hash"));
  return plan;
}

void run_export(const Options& options, Tool& tool) {
  const OpenedModel model = open_model(options.model, options.open);
  const auto exporter = exporter_named(options.format).make();
  if (!options.overwrite && std::filesystem::exists(options.out))
    fail(ErrorKind::cannot_create, "{}: exists; replace it with --overwrite", options.out);
  const ExportPlan plan = plan_export(model);
  for (const PlannedTensor& tensor : plan.tensors)
    if (const auto reason = exporter->cannot_hold(plan.architecture, tensor)) fail(ErrorKind::bad_data, "{}", *reason);
  const std::uint64_t bytes = exporter->predict_bytes(plan);
  if (!options.dry_run) exporter->write(plan, *model.weights, options.out, tool.progress());
  if (tool.options().json) {
    Tool::print(nlohmann::json{{"file", options.out}, {"format", options.format}, {"bytes", bytes}}.dump(1) + "\n");
  } else {
    Tool::print(fmt::format("{}: {} bytes ({}){}\n", options.out, bytes, bytes_in_words(bytes),
                            options.dry_run ? ", not written" : ", written and read back"));
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  Tool tool("adze-export",
            "Writes a compressed model, or a checkpoint as it is, in the format of a runtime, reads the file back and "
            "compares\nevery tensor.",
            "  adze export OUT --format gguf -o model.gguf\n  adze export MODEL -o original-bf16.gguf");
  tool.app().add_option("model", options.model, "output folder of adze-compress, or a checkpoint")->required();
  tool.app().add_option("--format", options.format, "the runtime's format")->capture_default_str();
  tool.app().add_option("-o,--output", options.out, "the file to write")->required();
  tool.app().add_flag("--overwrite", options.overwrite, "replace an existing file");
  tool.app().add_flag("--dry-run", options.dry_run, "check everything, print the exact size, write nothing");
  add_model_options(tool.app(), options.open);
  return tool.run(argc, argv, [&] { run_export(options, tool); });
}
