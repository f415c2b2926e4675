#include "solve/obr/obr.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/parallel.h"
#include "solve/gptq/feedback.h"
#include "solve/masks/mask_rules.h"
#include "solve/masks/masked_solver.h"
#include "solve/restore/restore.h"

namespace adze {
namespace {

enum class Form { rows, shared, released_rtn, released_gptq };
constexpr std::array kForms{Named<Form>{"rows", Form::rows}, Named<Form>{"shared", Form::shared},
                            Named<Form>{"released-rtn", Form::released_rtn},
                            Named<Form>{"released-gptq", Form::released_gptq}};

enum class MaskRule { wanda, magnitude, nowag };
constexpr std::array kMaskRules{Named<MaskRule>{"wanda", MaskRule::wanda},
                                Named<MaskRule>{"magnitude", MaskRule::magnitude},
                                Named<MaskRule>{"nowag-p", MaskRule::nowag}};

Mask choose(MaskRule rule, ConstViewF weights, const SparsityPattern& pattern, const InputKnowledge& inputs) {
  switch (rule) {
    case MaskRule::magnitude:
      return choose_mask(magnitude_scores(weights), pattern, Competition::matrix);
    case MaskRule::nowag:
      return choose_mask(nowag_scores(weights, inputs.moments), pattern, Competition::matrix);
    case MaskRule::wanda:
      break;
  }
  return choose_mask(wanda_scores(weights, inputs.moments), pattern, Competition::row);
}

/// The released form's two halves.
struct Released {
  bool gptq;
  double split;
  ScaleRule rule;
};

/// Weights whose columns before `split` are on the grid and whose kept ones after it make up for that (specification
/// 7.2, quantization: wtilde_R2 = wbar_R2 + d_E2 H_E2R2 H_R2R2^-1; plus, as in the code, not minus as in the paper).
MatrixF compensated(const MatrixF& restored, std::size_t split, const InputKnowledge& inputs, Encoding& encoding) {
  MatrixF start = restored;
  Mask free = encoding.mask();
  parallel_for(restored.rows(), [&](std::size_t r) {
    encoding.round_row(r, restored.row(r));
    for (std::size_t c = 0; c < split; ++c) start(r, c) = encoding.value(r, c);
    free.prune(r, 0, split);
  });
  return least_squares(restored, start, inputs.damped, free);
}

bool round_as_released(const Released& released, ConstViewF weights, const InputKnowledge& inputs, Encoding& encoding) {
  const MatrixF restored = restore_kept(weights, inputs.damped, encoding.mask());
  // Scales are those of the dense weights, as the released code has them.
  const Mask mask = encoding.mask();
  const SparsityPattern pattern = *encoding.pattern();
  encoding.prune(pattern, Mask(weights.shape()));
  encoding.fit_all(weights, inputs.moments, released.rule);
  encoding.prune(pattern, mask);
  const auto split = static_cast<std::size_t>(released.split * static_cast<double>(weights.cols()));
  const MatrixF moved = compensated(restored, split, inputs, encoding);
  if (released.gptq) {  // columns before the split are on the grid: they feed nothing into the others
    const FeedbackPlan plan(inputs.factor, encoding, released.rule, true);
    return round_with_feedback(plan, moved, encoding).finite;
  }
  parallel_for(moved.rows(), [&](std::size_t r) { encoding.round_row(r, moved.row(r)); });
  return true;
}

}  // namespace

std::unique_ptr<Solver> configure_obr(MapReader& options) {
  const Form form = options.optional("form").one_of<Form>(kForms).value_or(Form::rows);
  const MaskRule rule = options.optional("mask").one_of<MaskRule>(kMaskRules).value_or(MaskRule::wanda);
  const bool released = form == Form::released_rtn || form == Form::released_gptq;
  const Value split_option = options.optional("split");
  const double split = split_option.real(0, 1).value_or(0.5);
  if (split_option.present() && !released) split_option.complain("is of the released forms");
  MaskedOptions defaults;
  defaults.restore = true;
  defaults.rounding = form == Form::rows ? Rounding::rows : Rounding::shared;
  if (!released) {
    defaults.polish = {3, true};
    defaults.shift = 1;
  }
  const MaskedOptions read = read_masked_options(options, defaults);
  const auto form_name = std::ranges::find(kForms, form, &Named<Form>::value)->name;
  const auto mask_name = std::ranges::find(kMaskRules, rule, &Named<MaskRule>::value)->name;
  MaskedMethod method{"obr", fmt::format("form={} mask={} split={} ", form_name, mask_name, split)};
  method.mask = [rule](ConstViewF weights, const SparsityPattern& pattern, const InputKnowledge& inputs) {
    return choose(rule, weights, pattern, inputs);
  };
  if (released)
    method.values = [parts = Released{form == Form::released_gptq, split, read.scale_rule}](
                        ConstViewF weights, const std::optional<SparsityPattern>&, const InputKnowledge& inputs,
                        Encoding& encoding) { return round_as_released(parts, weights, inputs, encoding); };
  return make_masked_solver(std::move(method), read);
}

}  // namespace adze
