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

void RawTensors::read_range(const std::string& name, std::uint64_t offset, std::span<std::byte> out) const {
  for (const SafetensorsFile& file : files_)
    if (const SafetensorsTensor* const tensor = file.find(name)) {
      if (offset > tensor->bytes() || out.size() > tensor->bytes() - offset)
        fail(ErrorKind::bad_data, "{}: tensor '{}' has {} bytes", origin_, name, tensor->bytes());
      return file.file().read(checked_add(checked_add(file.data_start(), tensor->begin), offset), out);
    }
  fail(ErrorKind::bad_data, "{}: tensor '{}' is missing", origin_, name);
}

std::vector<std::byte> RawTensors::read_all(const std::string& name) const {
  for (const SafetensorsFile& file : files_)
    if (const SafetensorsTensor* const tensor = file.find(name))
      return read_bytes(file.file(), checked_add(file.data_start(), tensor->begin), tensor->bytes());
  fail(ErrorKind::bad_data, "{}: tensor '{}' is missing", origin_, name);
}

std::vector<std::byte> RawTensors::read(const std::string& name, SafetensorsType type,
                                        const std::vector<std::uint64_t>& shape) const {
  const SafetensorsTensor& tensor = require(name);
  if (tensor.type != type || tensor.shape != shape)
    fail(ErrorKind::bad_data, "{}: tensor '{}' is {} [{}], the configuration asks for {} [{}]", origin_, name,
         name_of(tensor.type), fmt::join(tensor.shape, ", "), name_of(type), fmt::join(shape, ", "));
  return read_all(name);
}

RawTensors::Floats RawTensors::read_floats(const std::string& name, const std::vector<std::uint64_t>& shape) const {
  const SafetensorsTensor& tensor = require(name);
  const auto dtype = dtype_of(tensor.type);
  if (!dtype || !is_weight_dtype(*dtype) || tensor.shape != shape)
    fail(ErrorKind::bad_data, "{}: tensor '{}' is {} [{}], the configuration asks for F16, BF16 or F32 [{}]", origin_,
         name, name_of(tensor.type), fmt::join(tensor.shape, ", "), fmt::join(shape, ", "));
  return {*dtype, read_all(name)};
}

}  // namespace adze
