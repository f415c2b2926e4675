// The recipe: what a run compresses, with which schemes, and what it makes (docs/recipe.md is the user's page).
//
// This layer knows the syntax: keys, types, ranges, names that the same file defines. It does not know which grids,
// solvers, formats and protocols exist, nor which options they take: the pipeline checks those against its registries
// and reports with Recipe::source in the same format:
//
//   Diagnostics problems(recipe.source);
//   for (const SchemeSpec& scheme : recipe.schemes) {
//     if (!find_grid(scheme.grid)) problems.report(scheme.grid_where, "unknown grid '{}'", scheme.grid);
//     MapReader options = read_options(scheme, problems);
//     const double damp = options.optional("damp").real(0, 1).value_or(0.01);
//     options.finish();                                   // whatever neither the grid nor the solver asked for
//   }
//   problems.throw_if_any();
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "recipe/diagnostics.h"
#include "recipe/document.h"
#include "recipe/expert_inputs.h"
#include "recipe/reader.h"

namespace adze {

inline constexpr std::uint64_t kRecipeVersion = 1;

/// What a recipe's solvers know of inputs.
enum class InputsFrom : std::uint8_t {
  text,     ///< windows of a text set run through the model
  nothing,  ///< `calibration: none`: every input weighs the same
  weights,  ///< `calibration: weights`: what the linears before them make of white noise
};

struct CalibrationSpec {
  Mark where;
  InputsFrom from = InputsFrom::text;  ///< without text there are no windows
  std::filesystem::path set;           ///< a text set (recipe/text_set.h), resolved against the recipe's folder
  std::size_t windows = 128;
  std::size_t tokens = 512;  ///< per window
  std::uint64_t seed = 0;
  ExpertInputs experts = ExpertInputs::routed;  ///< of mixtures
};

/// One row of `schemes`.
struct SchemeSpec {
  std::string name;
  Mark where;        ///< of the name
  std::string grid;  ///< empty: the solver needs none (low rank)
  Mark grid_where;   ///< of the grid's name, or of the scheme
  std::string solver = "gptq";
  Mark solver_where;                 ///< of the solver's name, or of the scheme
  std::optional<std::size_t> group;  ///< columns that share a scale
  std::optional<bool> symmetric;
  Node options;  ///< a map of the other keys, each with one scalar; see read_options()
};

/// One item of `transform`: what is done to the model before anything is solved, in the order of the list.
struct TransformSpec {
  std::string kind;
  Mark where;             ///< of the kind
  bool optional = false;  ///< adze allocate decides whether it is worth its while
  Node options;           ///< a map of the other keys; see read_options()
};

/// What a rule does with tensors whose shape the scheme cannot take.
struct FallbackSpec {
  Mark where;
  std::optional<std::string> scheme;  ///< exactly one of the two
  std::optional<DType> store;
};

/// Which modules of a rule that leaves a choice must take the same one.
enum class TieMode : std::uint8_t {
  none,
  input,  ///< those of a block that read one input: q, k and v; gate and up
  block,  ///< those of a block
  all,
};

struct RuleSpec {
  std::string modules;  ///< glob (base/words.h)
  Mark where;           ///< of the glob
  /// Exactly one of scheme, store and choose is there. Names are those of existing schemes, each once.
  std::optional<std::string> scheme;
  std::optional<DType> store;
  std::vector<std::string> choose;
  TieMode tie = TieMode::none;
  Mark treatment_where;  ///< of that one
  std::optional<FallbackSpec> fallback;
};

/// A device's memory: the file, a cache of keys and values of so many tokens in 16 bits, and what a runtime takes.
struct FitSpec {
  std::uint64_t ram = 0;
  std::size_t context = 4096;
  std::uint64_t reserve = 256 << 20;
};

/// Exactly one of bytes, bits_per_weight, kl and fit is there.
struct BudgetSpec {
  Mark where;
  std::optional<std::uint64_t> bytes;
  std::optional<double> bits_per_weight;
  std::optional<double> kl;  ///< the smallest model that is no farther from the original
  std::optional<FitSpec> fit;
  std::string of;  ///< export format whose file is bounded, or made smallest; empty: the first export
  /// Beside it: multiplications a token in linears of blocks, as a part of the original's.
  std::optional<double> multiplications;
};

struct ExportSpec {
  std::string format;
  Mark where;                  ///< of the format
  std::filesystem::path file;  ///< below the output folder: relative and without ".."
  Mark file_where;
  std::uint64_t split_max_bytes = 0;    ///< `split_max_size`: of one file; 0: one file, however large
  std::optional<std::string> kv_cache;  ///< a name of scales for a runtime's cache, as exporters know them
  Mark kv_cache_where;
};

struct EvaluateSpec {
  Mark where;
  std::filesystem::path text;  ///< a text set, resolved against the recipe's folder
  std::size_t context = 512;
  std::string protocol = "lcpp";  ///< name without the context: "lcpp-512" in a recipe means lcpp and 512
  Mark protocol_where;
};

/// Which inputs a block is measured with: those the compressed blocks before it give, or the original model's.
enum class PropagateMode : std::uint8_t { compressed, original };
/// staged: H of each stage is measured after the stages before it were compressed. once: the block is measured once.
enum class StageMode : std::uint8_t { staged, once };

struct Recipe {
  std::string origin;
  std::filesystem::path folder;  ///< relative paths start here
  std::string text_hash;         ///< base/hash.h of the text
  CalibrationSpec calibration;
  std::vector<TransformSpec> transforms;
  std::vector<SchemeSpec> schemes;  ///< in the order of the file; names differ
  std::vector<RuleSpec> rules;      ///< first match wins; never empty
  std::optional<BudgetSpec> budget;
  std::vector<ExportSpec> exports;
  std::optional<EvaluateSpec> evaluate;
  PropagateMode propagate = PropagateMode::compressed;
  StageMode stages = StageMode::staged;
  Diagnostics warnings;  ///< schemes that no rule uses, rules that repeat a glob
  std::shared_ptr<const Source> source;

  /// Null when there is no scheme of that name.
  const SchemeSpec* find_scheme(std::string_view name) const;
};

/// Throws Error(bad_recipe) with every problem of the file; load_recipe also missing_input and io.
Recipe load_recipe(const std::filesystem::path& path);
/// `origin` names the recipe in messages; relative paths start at its folder.
Recipe parse_recipe(std::string text, std::string origin);

/// Reads a scheme's options. Suggestions for unknown keys know `grid`, `solver`, `group` and `symmetric` too.
MapReader read_options(const SchemeSpec& scheme, Diagnostics& problems);
/// True when the scheme itself says the option.
bool has_option(const SchemeSpec& scheme, std::string_view key);
/// Reads a transform's options.
MapReader read_options(const TransformSpec& transform, Diagnostics& problems);

}  // namespace adze
