// adze-quantize: one grid and one solver on a model, with statistics that were measured before.
#include <algorithm>

#include "base/error.h"
#include "scheme_tool.h"
#include "solve/solver.h"

namespace {

using namespace adze;

void check_usage(const SchemeToolOptions& options) {
  const SolverInfo* info = find_solver(options.solver);
  const bool sparse =
      std::ranges::any_of(options.options, [](const std::string& option) { return option.starts_with("sparsity="); });
  if (sparse || (info != nullptr && info->needs_pattern))
    fail(ErrorKind::usage, "adze quantize prunes nothing, but {}; that is what adze prune does",
         sparse ? "a sparsity is given" : "solver " + options.solver + " prunes");
}

}  // namespace

int main(int argc, char** argv) {
  SchemeToolOptions options;
  options.solver = "gptq";
  Tool tool("adze-quantize",
            "Quantizes a model with one grid and one solver, block by block, with statistics that adze calibrate has\n"
            "measured on the original model. The output is that of adze compress, for adze eval and adze export.",
            "  adze quantize MODEL --stats STATS --grid gguf/q4_k -o OUT\n"
            "  adze quantize MODEL --stats STATS --grid int4 --group 64 --symmetric false --option damp=0.05 -o OUT\n"
            "  adze quantize MODEL --grid gguf/q8_0 --solver rtn --modules \"layers.*.mlp.*\" -o OUT --dry-run");
  add_scheme_options(tool.app(), options);
  tool.app().get_option("--grid")->required();
  return tool.run(argc, argv, [&] {
    check_usage(options);
    run_scheme_tool(options, tool);
  });
}
