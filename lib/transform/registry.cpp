#include <array>

#include "base/error.h"

#include "transform/awq.h"
#include "transform/drop_blocks.h"
#include "transform/narrow_heads.h"
#include "transform/prune_channels.h"
#include "transform/rotation.h"
#include "transform/slice.h"
#include "transform/smoothquant.h"
#include "transform/transform.h"

namespace adze {
namespace {

constexpr std::array kTransforms{
    TransformInfo{"rotate", "rotate the residual stream and value heads (randomised Hadamard; QuaRot's R1 and R2)",
                  true, &configure_rotation},
    TransformInfo{"slice", "turn the residual stream to its principal directions and cut the weakest off (SliceGPT)",
                  true, &configure_slice},
    TransformInfo{"narrow-heads", "fewer numbers per attention head, the same in all (MoDeGPT's types II and III)",
                  true, &configure_narrow_heads},
    TransformInfo{"drop-blocks", "drop blocks, or collapse them into the one before (LaCo, ShortGPT)", true,
                  &configure_drop_blocks},
    TransformInfo{"awq", "scale inputs so that large ones are rounded more finely (AWQ)", false, &configure_awq},
    TransformInfo{"smoothquant", "move the range of inputs into the weights (SmoothQuant)", false,
                  &configure_smoothquant},
    TransformInfo{"prune-ffn", "drop channels of every FFN, the others making up for them", false,
                  &configure_prune_ffn},
    TransformInfo{"prune-heads", "drop attention heads of every block, the others making up for them", false,
                  &configure_prune_heads},
};

}  // namespace

std::unique_ptr<Survey> Transform::survey() const { fail(ErrorKind::internal, "{} needs no survey", description()); }

std::string in_words(const Transform& transform) {
  const std::string remark = transform.remark();
  return transform.description() + (remark.empty() ? "" : "; " + remark);
}

std::span<const TransformInfo> transforms() { return kTransforms; }

const TransformInfo* find_transform(std::string_view name) {
  for (const TransformInfo& info : kTransforms)
    if (info.name == name) return &info;
  return nullptr;
}

}  // namespace adze
