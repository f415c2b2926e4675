#include "model/activations.h"

#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/dtype.h"
#include "base/error.h"
#include "grid/grid.h"
#include "model/forward.h"
#include "model/memory_source.h"

namespace adze {
namespace {

using testing::random_values;

std::vector<float> rounded(ActivationRounding rounding, const std::vector<float>& values) {
  std::vector<float> out(values.size());
  round_activations(rounding, values, out);
  return out;
}

TEST(Activations, AreNamed) {
  EXPECT_EQ(parse_activations("exact"), Activations::exact);
  EXPECT_EQ(parse_activations("q8"), Activations::q8);
  EXPECT_EQ(name_of(Activations::q8), "q8");
  try {
    parse_activations("q4");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_THAT(error.message(), ::testing::HasSubstr("'q4'; use exact or q8"));
  }
}

TEST(Activations, RoundByTheFormatOfTheWeights) {
  EXPECT_EQ(rounding_for("gguf/q4_0", Activations::q8), ActivationRounding::q8_0);
  EXPECT_EQ(rounding_for("gguf/q4_k", Activations::q8), ActivationRounding::q8_k);
  EXPECT_EQ(rounding_for("gguf/iq4_xs", Activations::q8), ActivationRounding::q8_k);
  EXPECT_EQ(rounding_for("gguf/iq4_nl", Activations::q8), ActivationRounding::q8_0);
  EXPECT_EQ(rounding_for("gguf/q4_0, 2:4", Activations::q8), ActivationRounding::q8_0);
  EXPECT_EQ(rounding_for("f16", Activations::q8), ActivationRounding::f16);
  EXPECT_EQ(rounding_for("f32", Activations::q8), std::nullopt);
  EXPECT_EQ(rounding_for("int4 g128 sym", Activations::q8), std::nullopt);
  EXPECT_EQ(rounding_for("gguf/q4_k", Activations::exact), std::nullopt);
}

TEST(Activations, EveryGgufGridHasARounding) {
  for (const std::string& name : grid_names())
    if (name.starts_with("gguf/")) {
      EXPECT_TRUE(rounding_for(name, Activations::q8).has_value()) << name;
    }
}

TEST(Activations, OfQ8_0HaveAnF16ScaleAndIntegerCodesPerBlockOf32) {
  std::vector<float> values = random_values(96, "x");
  for (std::size_t i = 32; i < 64; ++i) values[i] *= 100;  // blocks have scales of their own
  const std::vector<float> out = rounded(ActivationRounding::q8_0, values);
  for (std::size_t first = 0; first < 96; first += 32) {
    float most = 0;
    for (std::size_t i = first; i < first + 32; ++i) most = std::max(most, std::abs(values[i]));
    const float step = f16_to_float(float_to_f16(most / 127));
    for (std::size_t i = first; i < first + 32; ++i) {
      EXPECT_LE(std::abs(out[i] - values[i]), 0.5F * step + 1e-3F * most);
      const float code = out[i] / step;
      EXPECT_NEAR(code, std::round(code), 1e-3);
      EXPECT_LE(std::abs(code), 127.01F);
    }
  }
}

TEST(Activations, OfQ8_KKeepTheExtremeOfEveryBlockOf256) {
  const std::vector<float> values = random_values(512, "x");
  const std::vector<float> out = rounded(ActivationRounding::q8_k, values);
  for (std::size_t first = 0; first < 512; first += 256) {
    const auto block = std::span(values).subspan(first, 256);
    const auto by_size = [](float x) { return std::abs(x); };
    const auto extreme = static_cast<std::size_t>(std::ranges::max_element(block, {}, by_size) - block.begin());
    EXPECT_NEAR(out[first + extreme], block[extreme], 1e-6F * std::abs(block[extreme]));
    const float step = std::abs(block[extreme]) / 127;
    for (std::size_t i = 0; i < 256; ++i) EXPECT_LE(std::abs(out[first + i] - block[i]), 0.5001F * step);
  }
}

TEST(Activations, OfZerosStayZerosAndTiesGoToEven) {
  const std::vector<float> zeros(256);
  EXPECT_EQ(rounded(ActivationRounding::q8_0, zeros), zeros);
  EXPECT_EQ(rounded(ActivationRounding::q8_k, zeros), zeros);
  std::vector<float> values(32);
  values[0] = 127;
  values[1] = 2.5F;
  values[2] = 3.5F;
  values[3] = -2.5F;
  const std::vector<float> out = rounded(ActivationRounding::q8_0, values);
  EXPECT_EQ(out[0], 127);
  EXPECT_EQ(out[1], 2);
  EXPECT_EQ(out[2], 4);
  EXPECT_EQ(out[3], -2);
}

TEST(Activations, OfHalfFloatWeightsAreHalfFloats) {
  const std::vector<float> values = random_values(50, "x");
  const std::vector<float> f16 = rounded(ActivationRounding::f16, values);
  const std::vector<float> bf16 = rounded(ActivationRounding::bf16, values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(f16[i], f16_to_float(float_to_f16(values[i])));
    EXPECT_EQ(bf16[i], bf16_to_float(float_to_bf16(values[i])));
  }
}

TEST(Activations, ChangeTheForwardPassOfRoundedFormatsOnly) {
  const Architecture a = testing::small_architecture();
  const MatrixF x = testing::random_matrix({5, a.hidden}, "states");
  const auto logits = [&](const ModelWeights& model, Activations activations) {
    const Forward forward(a, 5, activations);
    Workspace work;
    MatrixF states = x, out(5, a.vocab);
    forward.run_block(model.block(0), states, work);
    forward.logits(*model.head(), states, out, work);
    return out;
  };
  const auto f32 = testing::random_model(a), f16 = testing::random_model(a, DType::f16);
  EXPECT_EQ(logits(f32, Activations::q8), logits(f32, Activations::exact));
  EXPECT_FALSE(logits(f16, Activations::q8) == logits(f16, Activations::exact));
}

}  // namespace
}  // namespace adze
