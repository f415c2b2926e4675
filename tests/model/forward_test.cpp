#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/parallel.h"
#include "model/forward.h"
#include "model/memory_source.h"
#include "model/pool.h"

namespace adze {
namespace {

using testing::random_matrix;
using testing::random_model;
using testing::random_values;
using testing::small_architecture;

MatrixF naive_linear(const MatrixF& x, const MatrixF& w, std::span<const float> bias) {
  MatrixF y(x.rows(), w.rows());
  for (std::size_t t = 0; t < x.rows(); ++t)
    for (std::size_t o = 0; o < w.rows(); ++o) {
      double sum = bias.empty() ? 0.0 : bias[o];
      for (std::size_t i = 0; i < w.cols(); ++i) sum += static_cast<double>(x(t, i)) * w(o, i);
      y(t, o) = static_cast<float>(sum);
    }
  return y;
}

TEST(Linear, IsTheNaiveLoopForEveryDtypeWithAndWithoutBias) {
  Workspace work;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
    for (const std::size_t rows : {1, 255, 256, 257, 530}) {  // around the tiles of 256 output rows
      const DenseTensor weight = make_dense(random_matrix({rows, 33}, "w"), dtype);
      const MatrixF x = random_matrix({7, 33}, "x");
      const std::vector<float> bias = random_values(rows, "b");
      for (const std::span<const float> b : {std::span<const float>(), std::span<const float>(bias)}) {
        const MatrixF expected = naive_linear(x, weight.decode(), b);
        MatrixF y(7, rows);
        linear(x, weight, b, y, work);
        MatrixF sum = random_matrix(y.shape(), "start");
        const MatrixF start = sum;
        linear(x, weight, b, sum, work, true);
        for (std::size_t i = 0; i < y.values().size(); ++i) {
          ASSERT_NEAR(y.values()[i], expected.values()[i], 2e-5) << name_of(dtype) << " " << rows;
          ASSERT_NEAR(sum.values()[i], start.values()[i] + expected.values()[i], 2e-5) << name_of(dtype);
        }
      }
    }
}

TEST(Embed, CopiesRowsAndRefusesIdsOutsideTheVocabulary) {
  const MatrixF table = random_matrix({5, 6}, "table");
  const InputTables embedding{std::make_shared<DenseTensor>(make_dense(table, DType::f32)), nullptr};
  MatrixF x(2, 6);
  const Forward forward(small_architecture(), 2);
  forward.embed(embedding, std::vector<std::int32_t>{4, 0}, x);
  EXPECT_TRUE(std::ranges::equal(x.row(0), table.row(4)));
  EXPECT_TRUE(std::ranges::equal(x.row(1), table.row(0)));
  for (const std::int32_t id : {5, -1}) {
    try {
      forward.embed(embedding, std::vector<std::int32_t>{0, id}, x);
      FAIL() << "no error for " << id;
    } catch (const Error& error) {
      EXPECT_EQ(error.message(), fmt::format("token id {} at position 1 is outside the vocabulary of 5", id));
    }
  }
}

Architecture biased_architecture() {
  Architecture a = small_architecture();
  a.qkv_bias = a.o_bias = a.mlp_bias = true;
  return a;
}

TEST(Forward, RunBlockIsItsStagesInOrder) {
  const auto model = random_model(biased_architecture());
  const Architecture& a = model.architecture();
  const Forward forward(a, 20);
  const BlockWeights block = model.block(0);
  Workspace work;
  MatrixF x = random_matrix({20, a.hidden}, "x");
  MatrixF whole = x;
  forward.run_block(block, whole, work);
  MatrixF normed(x.shape()), mix(20, a.q_width()), hidden(20, a.ffn);
  forward.stage_input_qkv(block, x, normed);
  forward.attention_mix(block, normed, mix, work);
  forward.add_attention(block, mix, x, work);
  forward.stage_input_mlp(block, x, normed);
  forward.mlp_hidden(block, normed, hidden, work);
  forward.add_mlp(block, hidden, x, work);
  EXPECT_TRUE(x == whole);
}

TEST(Forward, EveryWeightAndBiasOfABlockMatters) {
  const auto model = random_model(biased_architecture());
  const Architecture& a = model.architecture();
  const Forward forward(a, 5);
  const MatrixF x = random_matrix({5, a.hidden}, "x");
  Workspace work;
  const auto run = [&](const BlockWeights& block) {
    MatrixF y = x;
    forward.run_block(block, y, work);
    return y;
  };
  const MatrixF expected = run(model.block(0));
  for (const LinearInfo& info : block_linears(a)) {
    BlockWeights changed = model.block(0);
    changed[info.slot].weight =
        std::make_shared<DenseTensor>(make_dense(random_matrix(info.shape, "other"), DType::f32));
    EXPECT_FALSE(run(changed) == expected) << info.module;
    if (info.slot == LinearSlot::k) continue;  // a constant added to all keys moves all scores of a query alike ...
    changed = model.block(0);
    changed[info.slot].bias.assign(changed[info.slot].bias.size(), 1.0f);
    EXPECT_FALSE(run(changed) == expected) << info.module;
  }
  BlockWeights changed = model.block(0);
  changed[LinearSlot::k].bias.assign(a.kv_width(), 1.0f);  // ... but not after RoPE
  EXPECT_FALSE(run(changed) == expected);
  for (const NormSlot norm : {NormSlot::before_attention, NormSlot::before_ffn}) {
    changed = model.block(0);
    changed[norm][3] = 5.0f;
    EXPECT_FALSE(run(changed) == expected);
  }
}

TEST(Forward, ATokenDoesNotSeeLaterOnes) {
  const auto model = random_model(small_architecture());
  const Forward forward(model.architecture(), 30);
  const BlockWeights block = model.block(0);
  Workspace work;
  MatrixF x = random_matrix({30, 24}, "x");
  MatrixF changed = x;
  std::ranges::fill(changed.row(17), 1.0f);
  forward.run_block(block, x, work);
  forward.run_block(block, changed, work);
  for (std::size_t t = 0; t < 30; ++t) EXPECT_EQ(std::ranges::equal(x.row(t), changed.row(t)), t < 17) << t;
}

TEST(Forward, ASlidingWindowHidesWhatLiesBeforeIt) {
  Architecture a = small_architecture();
  a.sliding_window = 4;
  const auto model = random_model(a);
  const Forward forward(a, 30);
  const BlockWeights block = model.block(0);
  Workspace work;
  MatrixF x = random_matrix({30, 24}, "x");
  MatrixF changed = x;
  std::ranges::fill(changed.row(10), 1.0f);
  forward.run_block(block, x, work);
  forward.run_block(block, changed, work);
  for (std::size_t t = 0; t < 30; ++t) EXPECT_EQ(std::ranges::equal(x.row(t), changed.row(t)), t < 10 || t >= 14) << t;
}

TEST(Forward, TheFfnMayBeNarrowerThanTheArchitectureSays) {
  const auto model = random_model(small_architecture());
  BlockWeights block = model.block(0);
  const auto narrow = [](Shape shape, std::string_view key) {
    return std::make_shared<DenseTensor>(make_dense(random_matrix(shape, key), DType::f32));
  };
  block[LinearSlot::gate].weight = narrow({10, 24}, "gate");
  block[LinearSlot::up].weight = narrow({10, 24}, "up");
  block[LinearSlot::down].weight = narrow({24, 10}, "down");
  MatrixF x = random_matrix({6, 24}, "x");
  Workspace work;
  EXPECT_NO_THROW(Forward(model.architecture(), 6).run_block(block, x, work));
}

TEST(Forward, GivesTheSameBytesForAnyNumberOfThreadsAndAUsedWorkspace) {
  const auto model = random_model(small_architecture(), DType::bf16);
  const Forward forward(model.architecture(), 60);
  const BlockWeights block = model.block(1);
  const auto run = [&](int threads) {
    set_thread_count(threads);
    Pool<Workspace> pool;
    std::vector<MatrixF> windows;
    for (std::size_t w = 0; w < 12; ++w)
      windows.push_back(random_matrix({w % 3 == 0 ? 60u : 41u, 24}, fmt::to_string(w)));
    parallel_for(windows.size(), [&](std::size_t w) {
      const auto work = pool.borrow();
      forward.run_block(block, windows[w], *work);
    });
    return windows;
  };
  const auto one = run(1);
  const auto four = run(4);
  set_thread_count(0);
  EXPECT_TRUE(one == four);
}

TEST(Pool, LendsAnObjectToOneBorrowerAtATimeAndReusesIt) {
  Pool<int> pool;
  const int* first = nullptr;
  {
    const auto one = pool.borrow();
    const auto two = pool.borrow();
    EXPECT_NE(&*one, &*two);
    first = &*one;
  }
  const auto again = pool.borrow();  // the last one given back
  EXPECT_EQ(&*again, first);
}

TEST(Forward, LogitsAreTheHeadTimesTheNormedState) {
  const auto model = random_model(small_architecture());
  const Forward forward(model.architecture(), 4);
  const MatrixF x = random_matrix({4, 24}, "x");
  MatrixF normed(x.shape()), logits(4, 50);
  Workspace work;
  forward.final_norm(norm_of(model), x, normed);
  forward.logits(*model.head(), normed, logits, work);
  const MatrixF expected = naive_linear(normed, model.head()->decode(), {});
  for (std::size_t i = 0; i < logits.values().size(); ++i) ASSERT_NEAR(logits.values()[i], expected.values()[i], 1e-5);
}

}  // namespace
}  // namespace adze
