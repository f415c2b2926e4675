#include "model/packed/raw_tensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/read_bytes.h"

namespace adze {

RawTensors::RawTensors(const std::filesystem::path& folder)
    : origin_(folder.string()), files_(open_safetensors_files(folder)) {}

const SafetensorsTensor* RawTensors::find(std::string_view name) const {
  for (const SafetensorsFile& file : files_)
    if (const SafetensorsTensor* const tensor = file.find(name)) return tensor;
  return nullptr;
}

const SafetensorsTensor& RawTensors::require(const std::string& name) const {
  const SafetensorsTensor* const tensor = find(name);
  if (tensor == nullptr) fail(ErrorKind::bad_data, "{}: tensor '{}' is missing", origin_, name);
  return *tensor;
}

std::vector<std::string> RawTensors::names() const {
  std::vector<std::string> names;
  for (const SafetensorsFile& file : files_)
    for (const SafetensorsTensor& tensor : file.tensors()) names.push_back(tensor.name);
  return names;
}

std::vector<std::filesystem::path> RawTensors::files() const {
  std::vector<std::filesystem::path> paths;
  for (const SafetensorsFile& file : files_) paths.push_back(file.file().path());
  return paths;
}

RawTensors::Place RawTensors::place_of(const std::string& name) const {
  for (const SafetensorsFile& file : files_)
    if (const SafetensorsTensor* const tensor = file.find(name))
      return {file.file(), checked_add(file.data_start(), tensor->begin), tensor->bytes()};
  fail(ErrorKind::bad_data, "{}: tensor '{}' is missing", origin_, name);
}

void RawTensors::read_range(const std::string& name, std::uint64_t offset, std::span<std::byte> out) const {
  const auto [file, begin, bytes] = place_of(name);
  if (offset > bytes || out.size() > bytes - offset)
    fail(ErrorKind::bad_data, "{}: tensor '{}' has {} bytes", origin_, name, bytes);
  file.read(checked_add(begin, offset), out);
}

std::vector<std::byte> RawTensors::read_all(const std::string& name) const {
  const auto [file, begin, bytes] = place_of(name);
  return read_bytes(file, begin, bytes);
}

const SafetensorsTensor& RawTensors::require(const std::string& name, SafetensorsType type,
                                             const std::vector<std::uint64_t>& shape) const {
  const SafetensorsTensor& tensor = require(name);
  if (tensor.type != type || tensor.shape != shape)
    fail(ErrorKind::bad_data, "{}: tensor '{}' is {} [{}], the configuration asks for {} [{}]", origin_, name,
         name_of(tensor.type), fmt::join(tensor.shape, ", "), name_of(type), fmt::join(shape, ", "));
  return tensor;
}

std::vector<std::byte> RawTensors::read(const std::string& name, SafetensorsType type,
                                        const std::vector<std::uint64_t>& shape) const {
  require(name, type, shape);
  return read_all(name);
}

void RawTensors::read_rows(const std::string& name, SafetensorsType type, Shape shape, std::size_t multiple,
                           const std::function<void(std::size_t first, std::span<const std::byte> bytes)>& body) const {
  require(name, type, {shape.rows, shape.cols});
  const auto [file, begin, bytes] = place_of(name);
  const std::uint64_t row_bytes = shape.rows == 0 ? 0 : bytes / shape.rows;
  adze::read_rows(file, {begin, shape.rows, checked_cast<std::size_t>(row_bytes)}, multiple, body);
}

DType RawTensors::require_floats(const std::string& name, const std::vector<std::uint64_t>& shape) const {
  const SafetensorsTensor& tensor = require(name);
  const auto dtype = dtype_of(tensor.type);
  if (!dtype || !is_weight_dtype(*dtype) || tensor.shape != shape)
    fail(ErrorKind::bad_data, "{}: tensor '{}' is {} [{}], the configuration asks for F16, BF16 or F32 [{}]", origin_,
         name, name_of(tensor.type), fmt::join(tensor.shape, ", "), fmt::join(shape, ", "));
  return *dtype;
}

RawTensors::Floats RawTensors::read_floats(const std::string& name, const std::vector<std::uint64_t>& shape) const {
  const DType dtype = require_floats(name, shape);
  return {dtype, read_all(name)};
}

std::shared_ptr<const DenseTensor> RawTensors::read_matrix(const std::string& name, Shape shape) const {
  const DType dtype = require_floats(name, {shape.rows, shape.cols});
  ByteArray bytes(checked_cast<std::size_t>(require(name).bytes()));
  read_range(name, 0, bytes);
  return std::make_shared<DenseTensor>(dtype, shape, std::move(bytes));
}

}  // namespace adze
