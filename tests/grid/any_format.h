// A tensor in any format that can be stored, of random values, and a list of formats: every grid of the registry, every
// pattern, every kind of tensor made of others.
#pragma once

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "grid/compressed_tensor.h"
#include "grid/delta/dropped_tensor.h"
#include "grid/delta/sign_tensor.h"
#include "grid/factors/pivoted_tensor.h"
#include "grid/factors/product_tensor.h"
#include "grid/factors/sum_tensor.h"
#include "grid/factors/train_tensor.h"
#include "grid/grid_testing.h"
#include "grid/nested/nested_tensor.h"
#include "grid/rows/mixed_rows_tensor.h"
#include "grid/sparse/sparse_tensor.h"

namespace adze::grid_testing {

using AnyTensor = std::shared_ptr<const CompressedTensor>;

/// A mask of the pattern, its places drawn at random.
inline Mask random_mask(const SparsityPattern& pattern, Shape shape) {
  RandomStream random(1, "mask");
  Mask mask(shape);
  const auto prune_some = [&](std::size_t count, std::size_t of, auto&& prune) {
    std::vector<std::size_t> order(of);
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::size_t i = 0; i < count; ++i) {
      std::swap(order[i], order[i + random.below(of - i)]);
      prune(order[i]);
    }
  };
  const std::size_t cols = shape.cols, width = pattern.block_cols();
  if (pattern.kind() == PatternKind::n_of_m) {
    for (std::size_t r = 0; r < shape.rows; ++r)
      for (std::size_t c = 0; c < cols; c += pattern.m())
        prune_some(pattern.m() - pattern.n(), pattern.m(), [&](std::size_t i) { mask.prune(r, c + i); });
  } else if (pattern.kind() == PatternKind::rows) {
    prune_some(pattern.zeros(shape) / cols, shape.rows, [&](std::size_t r) { mask.prune(r, 0, cols); });
  } else {
    prune_some(pattern.zeros(shape) / width, shape.count() / width,
               [&](std::size_t b) { mask.prune(b * width / cols, b * width % cols, width); });
  }
  return mask;
}

/// `name` keys the values.
inline AnyTensor random_tensor(const std::string& format, Shape shape, const std::string& name);

inline AnyTensor random_mixed_rows(MixedRowsFormat format, Shape shape, const std::string& name) {
  std::vector<std::uint8_t> grid_of(shape.rows);
  std::vector<std::size_t> rows(format.grids.size());
  for (std::size_t r = 0; r < shape.rows; ++r) {
    grid_of[r] = static_cast<std::uint8_t>(r * 7 % format.grids.size());
    ++rows[grid_of[r]];
  }
  std::vector<AnyTensor> parts(format.grids.size());
  for (std::size_t g = 0; g < parts.size(); ++g)
    if (format.grids[g] && rows[g] > 0)
      parts[g] = random_tensor(format.grids[g]->name(), {rows[g], shape.cols}, name + std::to_string(g));
  return std::make_shared<MixedRowsTensor>(std::move(format), shape.cols, std::move(grid_of), std::move(parts));
}

inline AnyTensor random_tensor(const std::string& format, Shape shape, const std::string& name) {
  if (const auto dtype = dtype_from_name(format))
    return std::make_shared<DenseTensor>(make_dense(random_weights(shape, name), *dtype));
  if (const auto sum = parse_sum_format(format))
    return std::make_shared<SumTensor>(random_tensor(sum->base, shape, name + "a"),
                                       random_tensor(sum->correction, shape, name + "b"));
  if (const auto product = parse_product_format(format))
    return std::make_shared<ProductTensor>(random_tensor(product->left, product->left_shape(shape), name + "l"),
                                           random_tensor(product->right, product->right_shape(shape), name + "r"));
  if (const auto train = parse_train_format(format)) {
    std::vector<AnyTensor> cores;
    for (std::size_t k = 0; k < train->train.cores(); ++k)
      cores.push_back(random_tensor(train->values, train->train.core(k), name + std::to_string(k)));
    return std::make_shared<TrainTensor>(train->train, std::move(cores));
  }
  if (const auto rest = parse_pivoted_format(format)) {
    std::vector<std::size_t> pivots(shape.rows);
    for (std::size_t i = 0; i < pivots.size(); ++i) pivots[i] = shape.cols - 1 - 2 * i;
    return std::make_shared<PivotedTensor>(pivots, random_tensor(*rest, {shape.rows, shape.cols - shape.rows}, name));
  }
  if (auto mixed = parse_mixed_rows_format(format)) return random_mixed_rows(std::move(*mixed), shape, name);
  if (const auto nested = parse_nested_format(format)) {
    const AnyTensor integers = random_tensor(nested->grid->name(), shape, name);
    return std::make_shared<NestedTensor>(
        NestedTensor::from_integers(dynamic_cast<const QuantizedTensor&>(*integers), nested->planes));
  }
  if (const auto scope = parse_sign_format(format)) {
    const std::vector<std::uint16_t> scales(*scope == SignScope::row ? shape.rows : 1, float_to_f16(0.75f));
    return std::make_shared<SignTensor>(SignTensor::of_values(*scope, random_weights(shape, name), scales));
  }
  if (const auto dropped = parse_dropped_format(format))
    return std::make_shared<DroppedTensor>(DroppedTensor::of_values(dropped->mask, random_weights(shape, name), 2.5f));
  const auto sparse = parse_sparse_format(format);
  Encoding encoding(sparse ? sparse->grid : grid_from_name(format), shape);
  if (sparse) encoding.prune(sparse->pattern, random_mask(sparse->pattern, shape));
  const MatrixF weights = random_weights(shape, name);
  encoding.fit_all(weights, std::vector<float>(shape.cols, 1.0f), ScaleRule::minmax);
  round_all(encoding, weights);
  return encoding.finish();
}

inline std::vector<std::string> grid_formats() {
  std::vector<std::string> formats{"f32", "f16", "bf16"};
  for (const GridRequest& request : all_grids()) formats.push_back(make_grid(request)->name());
  formats.push_back("nvfp4 / 2816.5");
  return formats;
}

/// Every grid that can be pruned with every kind of pattern.
inline std::vector<std::string> sparse_formats() {
  std::vector<std::string> formats;
  for (const std::string& format : grid_formats()) {
    if (format == "f32" || (!dtype_from_name(format) && !grid_from_name(format)->holds_zero())) continue;
    for (const char* const pattern : {"50%", "33.3%", "97%", "0%", "2:4", "4:8", "16:32", "1:4", "50% in blocks of 16",
                                      "25% in blocks of 64", "30% in rows"})
      formats.push_back(format + ", " + pattern);
  }
  return formats;
}

/// How many values the mask keeps is part of the name.
inline std::string dropped_of(double probability, Shape shape) {
  const DropMask mask(probability, 7, "layers.0.mlp.up_proj");
  return dropped_format({mask, mask.kept(shape)});
}

/// For 256 x 256 weights.
inline std::vector<std::string> composed_formats() {
  return {"rank 24 [f16] [f16]",
          "rank 32 [bf16] [int8 g32 sym]",
          "rank 24 [f16] [pivoted f16]",
          "rank 64 [f16, 50%] [bf16]",
          "int4 g64 sym + rank 16 [f16] [f16]",
          "int3 g32 asym, 2:4 + rank 32 [bf16] [int4 g32 sym]",
          "gguf/q3_k + rank 8 [f16] [f16]",
          "train 16x16 by 16x16 bonds 24 [f16]",
          "train 4x8x8 by 8x4x8 bonds 12x9 [f16]",
          "rows of 120 bytes [zero] [int2 g64 asym] [int4 g64 sym] [gguf/q4_0]",
          "rows of 144 bytes [gguf/q4_k]",
          "planes 3 of int4 g64 sym",
          "planes 2 of int6 channel asym bf16",
          "planes 8 of int8 g32 asym",
          "signs per matrix",
          "gguf/q4_0 + signs per row",
          dropped_of(0.9, {256, 256}),
          "bf16 + " + dropped_of(0.125, {256, 256})};
}

}  // namespace adze::grid_testing
