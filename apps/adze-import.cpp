// adze-import: a checkpoint becomes a model store.
#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/words.h"
#include "checkpoint/model_store.h"
#include "model/tensors.h"
#include "pipeline/model_description.h"
#include "pipeline/open_model.h"
#include "tool.h"

namespace {

using namespace adze;

struct Options {
  std::string model;
  std::string out;
  bool copy = false;
  bool overwrite = false;
  bool describe = false;
  OpenModelOptions open;
};

/// "layers.0.self_attn.q_proj.weight": the module and the kind of tensor.
std::string canonical_name(const TensorSpec& spec) {
  const std::size_t dot = spec.hf_name.rfind('.');
  return spec.module + spec.hf_name.substr(dot);
}

nlohmann::ordered_json json_of(const ModelDescription& description) {
  nlohmann::ordered_json parts = nlohmann::ordered_json::array(), abilities = nlohmann::ordered_json::array();
  for (const DescribedPart& part : description.parts)
    parts.push_back({{"depth", part.depth}, {"name", part.name}, {"shape", part.shape}, {"note", part.note}});
  for (const Ability& ability : description.abilities)
    abilities.push_back({{"name", ability.name}, {"possible", ability.reason.empty()}, {"reason", ability.reason}});
  return {{"family", description.family}, {"gguf", description.gguf_name},    {"parameters", description.parameters},
          {"parts", std::move(parts)},    {"settings", description.settings}, {"abilities", std::move(abilities)}};
}

/// Of a model of text and images.
void warn_of_left_out(const OpenedModel& model, Tool& tool) {
  if (const std::string remark = left_out_remark(model); !remark.empty())
    tool.progress().warn(fmt::format("{}: {}", model.path.string(), remark));
}

void describe(const Options& options, Tool& tool) {
  OpenModelOptions open = options.open;
  open.takes_lists = false;  // of what is not known there is nothing to describe
  const OpenedModel model = open_model(options.model, open);
  warn_of_left_out(model, tool);
  const ModelDescription description = describe_model(model.architecture());
  Tool::print(tool.options().json ? json_of(description).dump(1) + "\n" : text_of(description));
}

void import(const Options& options, Tool& tool) {
  if (options.out.empty()) fail(ErrorKind::usage, "-o FILE.h5 is required, or --describe");
  if (std::filesystem::path(options.out).extension() != ".h5")
    fail(ErrorKind::usage, "{}: a model store is a .h5 file", options.out);
  if (!options.overwrite && std::filesystem::exists(options.out))
    fail(ErrorKind::cannot_create, "{}: exists; replace it with --overwrite", options.out);
  const OpenedModel model = open_model(options.model, options.open);
  const TensorSource& source = model.require_source();
  ModelStoreContents contents{model.files, {}};
  for (const TensorSpec& spec : expected_tensors(model.architecture()))
    if (!spec.listed) contents.canonical[spec.hf_name] = canonical_name(spec);
  warn_of_left_out(model, tool);
  if (!model.tokenizer_problem.empty())
    tool.progress().warn(fmt::format("the store gets no tokenizer: {}", model.tokenizer_problem));
  // Blocks, codes, and rows that are reordered or transposed cannot be referred to.
  const auto is_in_file = [&](const TensorInfo& tensor) { return source.place(tensor).has_value(); };
  const bool copy = options.copy || !model.parts.empty() || !std::ranges::all_of(source.tensors(), is_in_file);
  write_model_store(options.out, contents, source, copy, tool.progress());
  std::uint64_t bytes = 0;
  for (const TensorInfo& tensor : source.tensors()) bytes += tensor.bytes;
  const std::uint64_t store_bytes = std::filesystem::file_size(options.out);
  if (tool.options().json) {
    nlohmann::json json{{"store", options.out},
                        {"family", model.architecture().family},
                        {"tensors", source.tensors().size()},
                        {"tensor_bytes", bytes},
                        {"store_bytes", store_bytes},
                        {"copy", copy}};
    if (!model.tokenizer_problem.empty()) json["tokenizer_problem"] = model.tokenizer_problem;
    if (!model.left_out.empty()) json["left_out"] = model.left_out;
    Tool::print(json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    return;
  }
  Tool::print(fmt::format("{}: {}, {} tensors of {} checked, {}; the store takes {}\n", options.out,
                          model.architecture().family, source.tensors().size(), bytes_in_words(bytes),
                          copy ? "copied" : "referred to", bytes_in_words(store_bytes)));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  Tool tool(
      "adze-import",
      "Checks every tensor of a checkpoint (shape, type, finite values) and writes a model store: architecture,\n"
      "tokenizer, names, places and content hashes. The weights stay where they are unless --copy is given; those\n"
      "of a GGUF file, a pack or a packed checkpoint (GPTQ, AWQ, compressed-tensors, MLX) are always copied, under "
      "their\n"
      "Hugging Face names, blocks and codes decoded to f32.",
      "  adze import MODEL -o model.h5\n  adze import MODEL -o portable.h5 --copy\n  adze import model.gguf -o "
      "model.h5\n  adze import MODEL --describe\n  adze import FOLDER --weights-only -o model.h5");
  tool.app().add_option("model", options.model, "a Hugging Face folder, a GGUF file, a pack or a delta")->required();
  tool.app().add_option("-o,--output", options.out, "the store, a .h5 file");
  tool.app().add_flag("--describe", options.describe,
                      "write nothing; print the architecture as adze understands it: blocks, shapes, what shares an\n"
                      "input, what can be folded");
  tool.app()
      .add_option("--like", options.open.like, "of a folder: take its architecture for this one (LlamaForCausalLM ...)")
      ->type_name("NAME");
  add_weights_only_option(tool.app(), options.open);
  tool.app().add_flag("--copy", options.copy, "copy the weights into the store, so that it needs nothing else");
  tool.app().add_flag("--overwrite", options.overwrite, "replace an existing store");
  add_base_option(tool.app(), options.open);
  return tool.run(argc, argv, [&] { options.describe ? describe(options, tool) : import(options, tool); });
}
