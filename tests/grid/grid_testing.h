// Every grid there is, and how tests encode with one.
#pragma once

#include <gtest/gtest.h>

#include <cctype>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "grid/quantized_tensor.h"

namespace adze::grid_testing {

inline std::vector<GridRequest> all_grids() {
  std::vector<GridRequest> requests;
  for (const std::string& name : grid_names()) {
    if (!name.starts_with("int")) {
      requests.push_back({name, std::nullopt, "group", std::nullopt, "f16"});
      continue;
    }
    for (const bool symmetric : {true, false}) {
      requests.push_back({name, 64, "group", symmetric, "f16"});
      requests.push_back({name, 32, "group", symmetric, "bf16"});
      requests.push_back({name, std::nullopt, "channel", symmetric, "f32"});
      requests.push_back({name, std::nullopt, "tensor", symmetric, "f16"});
    }
  }
  requests.push_back({"fp8", 128, "group", std::nullopt, "f16"});
  return requests;
}

inline MatrixF random_weights(Shape shape, std::string_view name) {
  RandomStream random(1, name);
  MatrixF weights(shape);
  for (float& w : weights.values()) w = static_cast<float>(0.05 * random.normal());
  return weights;
}

inline void round_all(Encoding& encoding, const MatrixF& weights) {
  for (std::size_t r = 0; r < weights.rows(); ++r) encoding.round_row(r, weights.row(r));
}

inline Encoding encode(const std::shared_ptr<const Grid>& grid, const MatrixF& weights, ScaleRule rule) {
  Encoding encoding(grid, weights.shape());
  const std::vector<float> importance(weights.cols(), 1.0f);
  encoding.fit_all(weights, importance, rule);
  round_all(encoding, weights);
  return encoding;
}

inline double squared_error(const MatrixF& a, const MatrixF& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.values().size(); ++i) sum += std::pow(double{a.values()[i]} - b.values()[i], 2);
  return sum;
}

inline std::string grid_test_name(const ::testing::TestParamInfo<GridRequest>& info) {
  std::string name = make_grid(info.param)->name();
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

}  // namespace adze::grid_testing
