// adze-factorize: one factorisation on a model, with statistics measured before.
#include "base/error.h"
#include "base/words.h"
#include "scheme_tool.h"
#include "solve/solver.h"

namespace {

using namespace adze;

void check_usage(const SchemeToolOptions& options) {
  const SolverInfo* const info = find_solver(options.solver);
  if (info == nullptr || info->factors) return;  // unknown names are reported with the others
  std::vector<std::string> names;
  for (const SolverInfo& known : solvers())
    if (known.factors) names.emplace_back(known.name);
  fail(ErrorKind::usage, "adze factorize: solver {} makes no factors; {} do", options.solver, join_words(names));
}

}  // namespace

int main(int argc, char** argv) {
  SchemeToolOptions options;
  options.solver = "svd";
  Tool tool("adze-factorize",
            "Replaces the matrices of a model by products of smaller ones, block by block, with statistics that adze\n"
            "calibrate has measured on the original model. The output is that of adze compress.",
            "  adze factorize MODEL --stats STATS --keep 80% --option form=pivoted -o OUT\n"
            "  adze factorize MODEL --stats STATS --solver compot --keep 80% -o OUT\n"
            "  adze factorize MODEL --stats STATS --solver lowrank-residual --rank 32 --grid int3 --group 64 -o OUT\n"
            "  adze factorize MODEL --stats STATS --keep 60% --modules \"layers.*.mlp.*\" -o OUT --dry-run");
  add_scheme_options(tool.app(), options);
  tool.app().add_option("--keep", options.keep, "the part of a matrix' numbers that stays: 80%")->type_name("PERCENT");
  tool.app()
      .add_option("--rank", options.rank, "instead: of the factors; or a part of the smaller side, 50%")
      ->type_name("N");
  tool.app()
      .add_option("--sparsity", options.sparsity, "lowrank-residual: of the base, 50% or 2:4")
      ->type_name("PATTERN");
  return tool.run(argc, argv, [&] {
    check_usage(options);
    run_scheme_tool(options, tool);
  });
}
