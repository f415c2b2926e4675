// adze-inspect: what a file or folder is, what it holds, whether it is whole.
#include "base/error.h"
#include "pipeline/inspect.h"
#include "tool.h"

int main(int argc, char** argv) {
  using namespace adze;
  std::string path;
  bool tensors = false;
  InspectOptions options;
  Tool tool("adze-inspect",
            "Says what PATH is and what it holds: safetensors files, Hugging Face folders, model stores, outputs of\n"
            "adze-compress, statistics, importance matrices, GGUF files, packs. With --verify all of it is read and\n"
            "checked.",
            "  adze inspect MODEL\n  adze inspect OUT --verify\n  adze inspect model.gguf --tensors --json");
  tool.app().add_option("path", path, "a file or folder")->required();
  tool.app().add_flag("--tensors", tensors, "list every tensor: name, type, shape (slowest dimension first), bytes");
  tool.app().add_flag("--verify", options.verify,
                      "read everything: checksums, content hashes, finite values; exit 65 when something is damaged");
  return tool.run(argc, argv, [&] {
    const Inspection inspection = inspect(path, options, tool.progress());
    Tool::print(tool.options().json ? inspection_json(inspection, tensors) : inspection_text(inspection, tensors));
    if (!inspection.damage.empty()) fail(ErrorKind::bad_data, "{}: {}", path, inspection.damage.front());
  });
}
