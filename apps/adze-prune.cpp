// adze-prune: one sparsity and one solver on a model, with a grid or without, with statistics measured before.
#include "scheme_tool.h"

int main(int argc, char** argv) {
  using namespace adze;
  SchemeToolOptions options;
  options.solver = "sparsegpt";
  Tool tool("adze-prune",
            "Prunes a model with one solver, and quantizes what is left where a grid is given, block by block, with\n"
            "statistics that adze calibrate has measured on the original model. The output is that of adze compress.",
            "  adze prune MODEL --stats STATS --sparsity 2:4 -o OUT\n"
            "  adze prune MODEL --stats STATS --solver obr --sparsity 50% --grid int4 --group 128 -o OUT\n"
            "  adze prune MODEL --solver magnitude --sparsity 50% --option block=16 -o OUT --dry-run");
  add_scheme_options(tool.app(), options);
  tool.app()
      .add_option("--sparsity", options.sparsity, "50%, or 2:4 (of every 4 weights 2 are kept)")
      ->required()
      ->type_name("PATTERN");
  return tool.run(argc, argv, [&] { run_scheme_tool(options, tool); });
}
