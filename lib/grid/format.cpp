#include "grid/format.h"

#include "base/checked.h"
#include "base/error.h"
#include "grid/delta/dropped_tensor.h"
#include "grid/delta/sign_tensor.h"
#include "grid/factors/pivoted_tensor.h"
#include "grid/factors/product_tensor.h"
#include "grid/factors/sum_tensor.h"
#include "grid/factors/train_tensor.h"
#include "grid/nested/nested_tensor.h"
#include "grid/quantized_tensor.h"
#include "grid/rows/mixed_rows_tensor.h"
#include "grid/sparse/sparse_tensor.h"

namespace adze {
namespace {

/// The first `bytes` of a payload and what follows. Throws bad_data when there are less.
std::pair<std::vector<std::byte>, std::vector<std::byte>> cut(std::vector<std::byte> payload, std::uint64_t bytes) {
  if (payload.size() < bytes)
    fail(ErrorKind::bad_data, "the first part takes {} bytes, there are {}", bytes, payload.size());
  const auto at = payload.begin() + static_cast<std::ptrdiff_t>(bytes);
  std::vector<std::byte> second(at, payload.end());
  payload.erase(at, payload.end());
  return {std::move(payload), std::move(second)};
}

std::shared_ptr<const CompressedTensor> sum_from_payload(const SumFormat& format, Shape shape,
                                                         std::vector<std::byte> payload) {
  auto [base, correction] = cut(std::move(payload), format_bytes(format.base, shape));
  return std::make_shared<SumTensor>(tensor_from_payload(format.base, shape, std::move(base)),
                                     tensor_from_payload(format.correction, shape, std::move(correction)));
}

std::shared_ptr<const CompressedTensor> product_from_payload(const ProductFormat& format, Shape shape,
                                                             std::vector<std::byte> payload, const FindShared& find) {
  auto [left, right] = cut(std::move(payload), format_bytes(format.left, format.left_shape(shape)));
  return std::make_shared<ProductTensor>(
      tensor_from_payload(format.left, format.left_shape(shape), std::move(left)),
      tensor_from_payload(format.right, format.right_shape(shape), std::move(right), find));
}

/// The columns of a pivoted factor that are stored. Throws bad_data when there are more rows than columns.
Shape rest_of(Shape pivoted) {
  if (pivoted.rows > pivoted.cols) fail(ErrorKind::bad_data, "{} pivots among {} columns", pivoted.rows, pivoted.cols);
  return {pivoted.rows, pivoted.cols - pivoted.rows};
}

/// Throws bad_data when a train is not of that shape.
void check_whole(const TrainShape& train, Shape shape) {
  if (train.whole() == shape) return;
  fail(ErrorKind::bad_data, "a train of {} x {} weights for {} x {}", train.whole().rows, train.whole().cols,
       shape.rows, shape.cols);
}

std::shared_ptr<const CompressedTensor> train_from_payload(const TrainFormat& format, Shape shape,
                                                           std::vector<std::byte> payload) {
  check_whole(format.train, shape);
  std::vector<std::shared_ptr<const CompressedTensor>> cores;
  for (std::size_t k = 0; k < format.train.cores(); ++k) {
    const Shape core = format.train.core(k);
    auto [own, rest] = cut(std::move(payload), format_bytes(format.values, core));
    cores.push_back(tensor_from_payload(format.values, core, std::move(own)));
    payload = std::move(rest);
  }
  if (!payload.empty()) fail(ErrorKind::bad_data, "{} bytes after the last core of a train", payload.size());
  return std::make_shared<TrainTensor>(format.train, std::move(cores));
}

std::uint64_t train_bytes(const TrainFormat& format, Shape shape) {
  check_whole(format.train, shape);
  std::uint64_t bytes = 0;
  for (std::size_t k = 0; k < format.train.cores(); ++k) {
    const Shape core = format.train.core(k);
    bytes = checked_add(bytes, format_bytes(format.values, core));
  }
  return bytes;
}

}  // namespace

std::shared_ptr<const CompressedTensor> tensor_from_payload(const std::string& format, Shape shape, ByteArray payload,
                                                            const FindShared& find) {
  if (const auto dtype = dtype_from_name(format))
    return std::make_shared<DenseTensor>(*dtype, shape, std::move(payload));
  if (const auto sum = parse_sum_format(format)) return sum_from_payload(*sum, shape, std::move(payload).take());
  if (const auto product = parse_product_format(format))
    return product_from_payload(*product, shape, std::move(payload).take(), find);
  if (const auto shared = parse_shared_format(format)) {
    if (!payload.empty())
      fail(ErrorKind::bad_data, "{} bytes of a factor that {} stores", payload.size(), shared->owner);
    if (!find) fail(ErrorKind::bad_data, "'{}' is a factor that another block's file holds", format);
    return std::make_shared<SharedTensor>(shared->owner, find(*shared, shape));
  }
  if (const auto train = parse_train_format(format))
    return train_from_payload(*train, shape, std::move(payload).take());
  if (const auto rest = parse_pivoted_format(format))
    return PivotedTensor::from_payload(*rest, shape, std::move(payload).take());
  if (auto mixed = parse_mixed_rows_format(format))
    return MixedRowsTensor::from_payload(std::move(*mixed), shape, std::move(payload).take());
  if (auto nested = parse_nested_format(format))
    return std::make_shared<NestedTensor>(std::move(*nested), shape, std::move(payload).take());
  if (const auto scope = parse_sign_format(format))
    return std::make_shared<SignTensor>(*scope, shape, std::move(payload).take());
  if (auto dropped = parse_dropped_format(format))
    return std::make_shared<DroppedTensor>(std::move(*dropped), shape, std::move(payload).take());
  if (auto sparse = parse_sparse_format(format))
    return std::make_shared<SparseTensor>(std::move(sparse->grid), sparse->pattern, shape, std::move(payload).take());
  return std::make_shared<QuantizedTensor>(grid_from_name(format), shape, std::move(payload));
}

std::uint64_t format_bytes(const std::string& format, Shape shape) {
  if (const auto dtype = dtype_from_name(format)) return checked_mul(shape.count(), bytes_of(*dtype));
  if (const auto sum = parse_sum_format(format))
    return checked_add(format_bytes(sum->base, shape), format_bytes(sum->correction, shape));
  if (const auto product = parse_product_format(format))
    return checked_add(format_bytes(product->left, product->left_shape(shape)),
                       format_bytes(product->right, product->right_shape(shape)));
  if (parse_shared_format(format)) return 0;
  if (const auto train = parse_train_format(format)) return train_bytes(*train, shape);
  if (const auto rest = parse_pivoted_format(format))
    return checked_add(pivot_list_bytes(shape), format_bytes(*rest, rest_of(shape)));
  if (const auto mixed = parse_mixed_rows_format(format)) return mixed->bytes(shape);
  if (const auto nested = parse_nested_format(format)) return nested->bytes(shape);
  if (const auto scope = parse_sign_format(format)) return sign_bytes(*scope, shape);
  if (const auto dropped = parse_dropped_format(format)) return dropped->bytes(shape);
  if (const auto sparse = parse_sparse_format(format)) return sparse_bytes(*sparse->grid, sparse->pattern, shape);
  return grid_from_name(format)->bytes(shape);
}

std::uint64_t format_multiplications(const std::string& format, Shape shape) {
  if (const auto sum = parse_sum_format(format))
    return checked_add(format_multiplications(sum->base, shape), format_multiplications(sum->correction, shape));
  if (const auto product = parse_product_format(format))
    return checked_add(format_multiplications(product->left, product->left_shape(shape)),
                       format_multiplications(product->right, product->right_shape(shape)));
  if (const auto shared = parse_shared_format(format)) return format_multiplications(shared->format, shape);
  if (const auto train = parse_train_format(format)) return train_multiplications(train->train);
  if (const auto rest = parse_pivoted_format(format)) return format_multiplications(*rest, rest_of(shape));
  if (parse_mixed_rows_format(format)) return shape.count();  // zero rows are not known before they are chosen
  if (parse_nested_format(format) || parse_sign_format(format)) return shape.count();
  if (const auto dropped = parse_dropped_format(format)) return dropped->kept;
  if (const auto sparse = parse_sparse_format(format)) return shape.count() - sparse->pattern.zeros(shape);
  return shape.count();
}

bool is_composed(const std::string& format) {
  return parse_sum_format(format) || parse_product_format(format) || parse_train_format(format) ||
         parse_mixed_rows_format(format) || parse_nested_format(format) || parse_sign_format(format) ||
         parse_dropped_format(format);
}

std::string dense_format(const std::string& format) {
  if (is_composed(format)) return format.find("bf16") == std::string::npos ? "f16" : "bf16";
  const auto sparse = dtype_from_name(format) ? std::nullopt : parse_sparse_format(format);
  return sparse ? sparse->grid->name() : format;
}

std::shared_ptr<const CompressedTensor> densified(const std::shared_ptr<const CompressedTensor>& tensor) {
  if (const auto* const sparse = dynamic_cast<const SparseTensor*>(tensor.get())) return sparse->dense();
  const std::string format = tensor->format();
  const std::string dense = dense_format(format);
  if (dense == format) return tensor;
  return std::make_shared<DenseTensor>(make_dense(tensor->decode(), *dtype_from_name(dense)));
}

}  // namespace adze
