#include "pipeline/solution_store.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/byte_array.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "grid/format.h"
#include "linalg/convert.h"
#include "pipeline/block_step.h"

namespace adze {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

/// A file that a store has written, or was writing; the folder of models beside them.
bool is_ours(const fs::directory_entry& entry) {
  if (entry.is_directory()) return entry.path().filename() == SolutionStore::kModels;
  const fs::path extension = entry.path().extension();
  return entry.is_regular_file() && (extension == ".bin" || extension == ".json" || extension == ".tmp");
}

std::span<const std::byte> bytes_of_text(const std::string& text) { return std::as_bytes(std::span(text)); }

/// The file's JSON; nothing where it is not there or cannot be read: it is made again then.
std::optional<Json> read_json(const fs::path& path) {
  if (!fs::exists(path)) return std::nullopt;
  try {
    return parse_json(read_file(path), path.string());
  } catch (const Error&) {
    return std::nullopt;
  }
}

Json to_json(const Solution& solution) {
  const CompressedTensor& tensor = *solution.tensor;
  const SolveReport& report = solution.report;
  return {{"format", tensor.format()},
          {"rows", tensor.shape().rows},
          {"cols", tensor.shape().cols},
          {"bytes", tensor.bytes()},
          {"hash", hash_hex(tensor.payload())},
          {"loss", report.loss},
          {"relative_loss", report.relative_loss},
          {"damping", report.damping},
          {"dead_inputs", report.dead_inputs},
          {"fallback", report.fallback}};
}

SolveReport report_of(const Json& json) {
  return {json.at("loss").get<double>(), json.at("relative_loss").get<double>(), json.at("damping").get<double>(),
          json.at("dead_inputs").get<std::size_t>(), json.at("fallback").get<std::string>()};
}

template <typename View>
void add_matrix(Hasher& hasher, const View& matrix) {
  hasher.add(fmt::format("{}x{};", matrix.rows(), matrix.cols()));
  for (std::size_t r = 0; r < matrix.rows(); ++r) hasher.add(std::as_bytes(std::span(matrix.row(r))));
}

}  // namespace

SolutionStore::SolutionStore(fs::path folder, std::uint64_t disk) : folder_(std::move(folder)), disk_(disk) {
  make_folder(folder_);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    if (!is_ours(entry))
      fail(ErrorKind::cannot_create, "{}: holds '{}', which is no solved option; name another folder", folder_.string(),
           entry.path().filename().string());
    if (entry.path().extension() == ".bin") used_ += entry.file_size();
  }
}

std::optional<Solution> SolutionStore::find(const std::string& key) const {
  const std::optional<Json> json = read_json(folder_ / (key + ".json"));
  const fs::path payload_path = folder_ / (key + ".bin");
  if (!json || !fs::exists(payload_path)) return std::nullopt;
  try {
    const std::string text = read_file(payload_path, fs::file_size(payload_path));  // tables may be of any size
    if (hash_hex(bytes_of_text(text)) != json->at("hash").get<std::string>()) return std::nullopt;
    const auto bytes = bytes_of_text(text);
    Solution solution;
    solution.tensor = tensor_from_payload(json->at("format").get<std::string>(),
                                          {json->at("rows").get<std::size_t>(), json->at("cols").get<std::size_t>()},
                                          copied(bytes));
    solution.report = report_of(*json);
    return solution;
  } catch (const Error&) {
    return std::nullopt;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

void SolutionStore::put(const std::string& key, const Solution& solution) {
  ++solved_;
  const std::span<const std::byte> payload = solution.tensor->payload();
  if (disk_ > 0 && used_ + payload.size() > disk_) {
    ++unkept_;
    return;
  }
  used_ += payload.size();
  write_file(folder_ / (key + ".bin"), {reinterpret_cast<const char*>(payload.data()), payload.size()});
  write_file(folder_ / (key + ".json"), to_json(solution).dump(1) + "\n");
}

std::optional<std::vector<double>> SolutionStore::numbers(const std::string& key) const {
  const std::optional<Json> json = read_json(folder_ / (key + ".json"));
  if (!json || !json->contains("numbers")) return std::nullopt;
  const Json& values = json->at("numbers");
  if (!values.is_array() || !std::ranges::all_of(values, [](const Json& one) { return one.is_number(); }))
    return std::nullopt;
  return values.get<std::vector<double>>();
}

std::optional<double> SolutionStore::number(const std::string& key) const {
  const auto values = numbers(key);
  return values && values->size() == 1 ? std::optional(values->front()) : std::nullopt;
}

void SolutionStore::put_numbers(const std::string& key, const std::vector<double>& values) {
  write_file(folder_ / (key + ".json"), Json{{"numbers", values}}.dump() + "\n");
}

void SolutionStore::remove(const fs::path& folder) {
  if (!fs::exists(folder)) return;
  const SolutionStore checked(folder);
  fs::remove_all(folder);
}

std::string moments_hash(const Moments& moments) {
  Hasher hasher;
  add_matrix(hasher, moments.hessian);
  add_matrix(hasher, moments.cross);
  add_matrix(hasher, moments.residual);
  return hasher.hex();
}

std::string solution_key(const ResolvedScheme& scheme, const CompressedTensor& original, const std::string& moments,
                         ConstViewD reader) {
  Hasher hasher;
  hasher.add(fmt::format("adze {} {} solution\n{}\n{}\n{}\n{}\n{} x {}\n{}\n", ADZE_VERSION, kernel_name(),
                         scheme.grid->name(), scheme.solver->description(),
                         scheme.pattern ? scheme.pattern->text() : "", original.format(), original.shape().rows,
                         original.shape().cols, moments));
  hasher.add(original.payload());
  add_matrix(hasher, reader);
  return hasher.hex();
}

}  // namespace adze
