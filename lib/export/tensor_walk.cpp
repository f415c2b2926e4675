#include "export/tensor_walk.h"

namespace adze {
namespace {

bool has_matrix(const TensorSpec& spec) { return spec.is_matrix() || spec.listed; }

}  // namespace

void TensorWalk::expect(std::vector<TensorSpec> order) {
  std::erase_if(order, [](const TensorSpec& spec) { return !has_matrix(spec); });
  ahead_ = {};
  order_ = std::move(order);
  next_ = 0;
}

void TensorWalk::read_ahead() {
  if (next_ == order_.size()) return;
  ahead_ = std::async(std::launch::async, [this, &spec = order_[next_]] { return model_.matrix_of(spec); });
}

TensorValues TensorWalk::at(const TensorSpec& spec) {
  if (!has_matrix(spec)) return {nullptr, model_.vector_of(spec)};
  if (matrix_ && name_ == spec.hf_name) return {matrix_, {}};
  matrix_ = nullptr;  // freed before the next one is there
  const bool is_next = next_ < order_.size() && order_[next_].hf_name == spec.hf_name;
  matrix_ = is_next && ahead_.valid() ? ahead_.get() : model_.matrix_of(spec);
  name_ = spec.hf_name;
  if (is_next) {
    ++next_;
    read_ahead();
  }
  return {matrix_, {}};
}

}  // namespace adze
