#include "pipeline/resolve_scheme.h"

#include "base/error.h"
#include "base/words.h"
#include "grid/float_grid.h"

namespace adze {
namespace {

std::vector<std::string> solver_names() {
  std::vector<std::string> names;
  for (const SolverInfo& info : solvers()) names.emplace_back(info.name);
  return names;
}

std::vector<std::string> solvers_for(PatternKind kind) {
  std::vector<std::string> names;
  for (const SolverInfo& info : solvers())
    if ((info.patterns & pattern_bit(kind)) != 0) names.emplace_back(info.name);
  return names;
}

/// `sparsity: 50%` or `2:4`, with `block: 16` in blocks of columns, with `whole_rows: true` in rows.
std::optional<SparsityPattern> read_pattern(const Value& sparsity, MapReader& options) {
  const Value block = options.optional("block");
  const Value whole_rows = options.optional("whole_rows");
  const auto text = sparsity.word();
  if (!sparsity.present())
    for (const Value* value : {&block, &whole_rows})
      if (value->present()) value->complain("is of schemes with a sparsity");
  if (!text) return std::nullopt;
  std::string pattern = *text;
  const auto cols = block.count(2, 65536);
  const bool rows = whole_rows.boolean().value_or(false);
  if (cols && rows) whole_rows.complain("and block exclude each other");
  if (cols) pattern += fmt::format(" in blocks of {}", *cols);
  if (rows) pattern += " in rows";
  try {
    return SparsityPattern::parse(pattern);
  } catch (const Error& error) {
    sparsity.complain(fmt::format("is wrong: {}", error.message()));
    return std::nullopt;
  }
}

/// Whether solver, grid and sparsity go together.
void check_use(const SchemeSpec& spec, const SolverInfo& info, ResolvedScheme& scheme, const Value& sparsity,
               Diagnostics& problems) {
  if (info.needs_pattern && !sparsity.present())
    return problems.report(spec.solver_where, "solver {} prunes: give the scheme a sparsity, such as 50% or 2:4",
                           info.name);
  if (!scheme.pattern) return;
  if (info.patterns == 0)
    return sparsity.complain(fmt::format("does not go with solver {}, which prunes nothing; {} do", info.name,
                                         join_words(solvers_for(scheme.pattern->kind()))));
  if ((info.patterns & pattern_bit(scheme.pattern->kind())) == 0)
    return sparsity.complain(fmt::format("of {} is nothing that solver {} makes; {} do", scheme.pattern->text(),
                                         info.name, join_words(solvers_for(scheme.pattern->kind()))));
  if (!scheme.grid || scheme.grid->holds_zero()) return;
  problems.report(spec.grid_where,
                  "grid {} has no zero in every group, so pruned weights would not stay zero; integer grids, "
                  "gguf/q4_0, gguf/q5_0, gguf/q8_0, gguf/q3_k and gguf/q6_k have",
                  spec.grid);
  scheme.grid.reset();  // reported: no matrix is asked about it
}

/// floats: without a grid, values are floats (they are pruned, or factors).
std::shared_ptr<const Grid> make_scheme_grid(const SchemeSpec& spec, bool floats, MapReader& options,
                                             Diagnostics& problems) {
  if (spec.grid.empty() && floats) {
    const Value values = options.optional("values");
    const auto dtype = values.word() ? dtype_from_name(*values.word()) : DType::f16;
    if (dtype == DType::f16 || dtype == DType::bf16) return make_float_grid(*dtype);
    values.complain("must be f16 or bf16");
    return nullptr;
  }
  GridRequest request{spec.grid, spec.group, "group", spec.symmetric, "f16"};
  request.scope = options.optional("scope").word().value_or(request.scope);
  request.scales = options.optional("scales").word().value_or(request.scales);
  if (spec.grid.empty()) {
    problems.report(spec.where, "scheme '{}' has no grid; grids are {}", spec.name, join_words(grid_names()));
    return nullptr;
  }
  try {
    return make_grid(request);
  } catch (const Error& error) {
    problems.report(spec.grid_where, "{}", error.message());
    return nullptr;
  }
}

}  // namespace

ResolvedScheme resolve_scheme(const SchemeSpec& spec, Diagnostics& problems) {
  MapReader options = read_options(spec, problems);
  ResolvedScheme scheme{spec.name, nullptr, nullptr};
  const Value sparsity = options.optional("sparsity");
  scheme.pattern = read_pattern(sparsity, options);
  const SolverInfo* info = find_solver(spec.solver);
  scheme.grid =
      make_scheme_grid(spec, sparsity.present() || (info != nullptr && info->grid_optional), options, problems);
  if (info != nullptr) {
    check_use(spec, *info, scheme, sparsity, problems);
    scheme.solver = info->configure(options);
    options.finish();
  } else {
    const std::vector<std::string> names = solver_names();
    problems.report(spec.solver_where, "unknown solver '{}'{}", spec.solver,
                    suggestion_or_list(spec.solver, names, "solvers are"));
  }
  return scheme;
}

}  // namespace adze
