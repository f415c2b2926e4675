#include "calibrate/statistics_store.h"

#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "base/error.h"
#include "checkpoint/sidecar.h"
#include "linalg/convert.h"
#include "linalg/mirror.h"
#include "model/architecture.h"
#include "model/compressed_store.h"
#include "model/tensors.h"

namespace adze {
namespace {

constexpr const char* kKind = "adze statistics";
constexpr std::uint64_t kVersion = 1;
constexpr double kDeadFraction = 1e-12;  // of the largest diagonal entry; as the solvers call an input dead
constexpr std::uint64_t kMostInputs = std::uint64_t{1} << 24;
constexpr std::size_t kRowsPerWrite = 64;

/// The one list of a folder's attributes: visit(name, member) for all of them.
template <typename Info, typename Visit>
void for_attributes(Info& info, Visit&& visit) {
  visit("model", info.model);
  visit("family", info.family);
  visit("layers", info.layers);
  visit("hidden", info.hidden);
  visit("ffn", info.ffn);
  visit("heads", info.heads);
  visit("kv_heads", info.kv_heads);
  visit("head_dim", info.head_dim);
  visit("vocab", info.vocab);
  visit("calibration", info.calibration);
  visit("windows", info.windows);
  visit("tokens", info.tokens);
  visit("kernels", info.kernels);
}

/// Those that only mixtures have.
template <typename Info, typename Visit>
void for_expert_attributes(Info& info, Visit&& visit) {
  visit("experts", info.experts);
  visit("expert_ffn", info.expert_ffn);
  visit("shared_ffn", info.shared_ffn);
  visit("expert_inputs", info.expert_inputs);
}

/// Only experts that were sent few tokens have borrowed any.
std::uint64_t borrowed_of(const Hdf5Reader& file, const std::string& input) {
  return file.has_attribute(input, "borrowed") ? file.number(input, "borrowed") : 0;
}

std::uint64_t triangle(std::uint64_t n) { return n * (n + 1) / 2; }
/// Position of H_jj in the upper triangle by rows.
std::uint64_t diagonal_position(std::uint64_t j, std::uint64_t n) { return j * n - j * (j - (j > 0)) / 2; }

std::vector<double> read_diagonal(const Hdf5Reader& file, const std::string& input, std::uint64_t inputs) {
  std::vector<double> diagonal(inputs);
  for (std::size_t j = 0; j < diagonal.size(); ++j)
    file.read_part<double>(input + "/second_moment", diagonal_position(j, inputs), std::span(diagonal).subspan(j, 1));
  return diagonal;
}

void write_triangle(Hdf5Writer& file, const std::string& path, const MatrixD& h) {
  const std::size_t n = h.rows();
  file.create<double>(path, triangle(n));
  std::vector<double> piece;
  std::uint64_t written = 0;
  for (std::size_t row = 0; row < n; ++row) {
    const auto values = h.row(row).subspan(row);
    piece.insert(piece.end(), values.begin(), values.end());
    if ((row + 1) % kRowsPerWrite != 0 && row + 1 != n) continue;
    file.write_part<double>(path, written, piece);
    written += piece.size();
    piece.clear();
  }
}

MatrixD read_triangle(const Hdf5Reader& file, const std::string& path, std::size_t n) {
  MatrixD h(n, n);
  std::uint64_t position = 0;
  for (std::size_t row = 0; row < n; ++row) {
    file.read_part<double>(path, position, h.row(row).subspan(row));
    position += n - row;
  }
  mirror_upper(h);
  return h;
}

template <typename T>
void require_finite(std::span<const T> values, std::string_view name) {
  if (!std::ranges::all_of(values, [](T value) { return std::isfinite(value); }))
    fail(ErrorKind::bad_data, "{} holds a value that is not finite; calibrate again", name);
}

Hdf5Reader open_checked(const std::filesystem::path& path) {
  check_sidecar(path);
  Hdf5Reader file(path);
  if (!file.has_attribute("/", "kind") || file.text("/", "kind") != kKind)
    fail(ErrorKind::bad_data, "{}: is not a file of statistics", path.string());
  if (file.number("/", "version") != kVersion)
    fail(ErrorKind::bad_data, "{}: statistics of version {}, this program reads {}; calibrate again", path.string(),
         file.number("/", "version"), kVersion);
  return file;
}

void check_count(const Hdf5Reader& file, const std::string& path, std::uint64_t expected, std::uint64_t inputs) {
  if (file.count(path) != expected)
    fail(ErrorKind::bad_data, "'{}' has {} values, {} inputs need {}", path, file.count(path), inputs, expected);
}

}  // namespace

StatisticsInfo describe_statistics(const Architecture& a, const std::string& model, const TokenWindows& windows,
                                   ExpertInputs experts) {
  StatisticsInfo info;
  info.model = model;
  info.family = a.family;
  info.layers = a.layers;
  info.hidden = a.hidden;
  info.ffn = a.ffn;
  info.heads = a.heads;
  info.kv_heads = a.kv_heads;
  info.head_dim = a.head_dim;
  info.vocab = a.vocab;
  info.experts = a.experts;
  info.expert_ffn = a.expert_ffn;
  info.shared_ffn = a.shared_ffn;
  if (a.is_mixture()) info.expert_inputs = name_of(experts);
  info.calibration = windows.hash();
  info.windows = windows.count();
  info.tokens = windows.ids.size();
  info.kernels = kernel_name();
  return info;
}

std::vector<std::string> differences(const StatisticsInfo& a, const StatisticsInfo& b) {
  const auto values_of = [](const StatisticsInfo& info) {
    std::vector<std::pair<std::string, std::string>> values;
    const auto add = [&](const char* name, const auto& value) { values.emplace_back(name, fmt::format("{}", value)); };
    for_attributes(info, add);
    for_expert_attributes(info, add);
    return values;
  };
  const auto left = values_of(a);
  const auto right = values_of(b);
  std::vector<std::string> names;
  for (std::size_t i = 0; i < left.size(); ++i)
    if (left[i] != right[i]) names.push_back(left[i].first);
  return names;
}

std::string statistics_file_name(std::size_t part, std::size_t layers) {
  return part < layers ? block_file_name(part) : "head.h5";
}

Architecture sizes_of(const StatisticsInfo& info) {
  Architecture a;
  a.family = info.family;
  a.layers = info.layers;
  a.hidden = info.hidden;
  a.ffn = info.ffn;
  a.heads = info.heads;
  a.kv_heads = info.kv_heads;
  a.head_dim = info.head_dim;
  a.vocab = info.vocab;
  a.experts = info.experts;
  a.expert_ffn = info.expert_ffn;
  a.shared_ffn = info.shared_ffn;
  return a;
}

std::vector<std::string> inputs_of_part(const StatisticsInfo& info, std::size_t part) {
  if (part == info.layers) return {"head"};
  std::vector<std::string> names;
  for (const Stage stage : stages_of(sizes_of(info))) names.push_back(name_of(stage));
  return names;
}

StatisticsWriter::StatisticsWriter(const std::filesystem::path& folder, const StatisticsInfo& info, std::size_t part,
                                   const std::string& weights)
    : missing_(inputs_of_part(info, part)), file_(folder / statistics_file_name(part, info.layers)) {
  file_.set_attribute("/", "kind", std::string(kKind));
  file_.set_attribute("/", "version", kVersion);
  file_.set_attribute("/", "part", std::uint64_t{part});
  file_.set_attribute("/", "weights", weights);
  const auto write = [&](const char* name, const auto& value) { file_.set_attribute("/", name, value); };
  for_attributes(info, write);
  if (info.experts > 0) for_expert_attributes(info, write);
}

void StatisticsWriter::add(const std::string& input, const InputStatistics& statistics) {
  if (std::erase(missing_, input) != 1)
    fail(ErrorKind::internal, "{}: input '{}' is unknown or stored twice", file_.path().string(), input);
  file_.make_group(input);
  file_.set_attribute(input, "inputs", std::uint64_t{statistics.inputs()});
  file_.set_attribute(input, "tokens", statistics.tokens);
  if (statistics.borrowed > 0) file_.set_attribute(input, "borrowed", statistics.borrowed);
  write_triangle(file_, input + "/second_moment", statistics.second_moment);
  file_.write<double>(input + "/sum", statistics.sum);
  file_.write<double>(input + "/abs_sum", statistics.abs_sum);
  file_.write<float>(input + "/abs_max", statistics.abs_max);
}

void StatisticsWriter::commit() {
  if (!missing_.empty())
    fail(ErrorKind::internal, "{}: input '{}' was not stored", file_.path().string(), missing_.front());
  file_.commit();
  write_sidecar(file_.path());
}

StatisticsReader::StatisticsReader(const std::filesystem::path& file) : file_(open_checked(file)) {
  with_context(file.string(), [&] {
    const auto read = [&]<typename T>(const char* name, T& value) {
      if constexpr (std::is_same_v<T, std::string>)
        value = file_.text("/", name);
      else
        value = file_.number("/", name);
    };
    for_attributes(info_, read);
    if (file_.has_attribute("/", "experts")) for_expert_attributes(info_, read);
    if (info_.experts > kMostExperts) fail(ErrorKind::bad_data, "is of {} experts", info_.experts);
    part_ = file_.number("/", "part");
    weights_ = file_.text("/", "weights");
    if (part_ > info_.layers) fail(ErrorKind::bad_data, "is part {} of a model of {} blocks", part_, info_.layers);
    for (const std::string& input : inputs_of_part(info_, part_)) check_input(input);
  });
}

/// Sizes first: nothing is allocated before they are known to fit.
void StatisticsReader::check_input(const std::string& input) const {
  const std::uint64_t inputs = file_.number(input, "inputs");
  const std::uint64_t tokens = file_.number(input, "tokens");
  if (inputs == 0 || inputs > kMostInputs) fail(ErrorKind::bad_data, "'{}' has {} inputs", input, inputs);
  if (tokens == 0 || tokens > info_.tokens)
    fail(ErrorKind::bad_data, "'{}' counts {} tokens of {}", input, tokens, info_.tokens);
  check_count(file_, input + "/second_moment", triangle(inputs), inputs);
  for (const char* vector : {"/sum", "/abs_sum", "/abs_max"}) check_count(file_, input + vector, inputs, inputs);
}

InputStatistics StatisticsReader::read(const std::string& input) const {
  return with_context(fmt::format("{}: '{}'", file_.path().string(), input), [&] {
    InputStatistics statistics;
    const std::uint64_t n = file_.number(input, "inputs");
    statistics.tokens = file_.number(input, "tokens");
    statistics.borrowed = borrowed_of(file_, input);
    statistics.second_moment = read_triangle(file_, input + "/second_moment", n);
    statistics.sum = file_.read<double>(input + "/sum", n);
    statistics.abs_sum = file_.read<double>(input + "/abs_sum", n);
    statistics.abs_max = file_.read<float>(input + "/abs_max", n);
    require_finite<double>(statistics.second_moment.values(), "second_moment");
    require_finite<double>(statistics.sum, "sum");
    require_finite<double>(statistics.abs_sum, "abs_sum");
    require_finite<float>(statistics.abs_max, "abs_max");
    return statistics;
  });
}

InputDiagonal StatisticsReader::diagonal(const std::string& input) const {
  InputDiagonal diagonal;
  const std::uint64_t inputs = file_.number(input, "inputs");
  diagonal.squares = read_diagonal(file_, input, inputs);
  diagonal.sum = file_.read<double>(input + "/sum", inputs);
  diagonal.tokens = file_.number(input, "tokens");
  for (const auto* values : {&diagonal.squares, &diagonal.sum})
    if (!std::ranges::all_of(*values, [](double value) { return std::isfinite(value); }))
      fail(ErrorKind::bad_data, "{}: {}: a value is not finite", file_.path().string(), input);
  return diagonal;
}

InputSummary StatisticsReader::summarize(const std::string& input) const {
  InputSummary summary;
  summary.part = part_;
  summary.where = part_ < info_.layers ? fmt::format("block {}", part_) : "head";
  summary.input = input;
  summary.inputs = file_.number(input, "inputs");
  summary.tokens = file_.number(input, "tokens");
  summary.borrowed = borrowed_of(file_, input);
  const std::vector<double> diagonal = read_diagonal(file_, input, summary.inputs);
  for (const double value : diagonal) summary.trace += value;
  const double dead = kDeadFraction * *std::ranges::max_element(diagonal);
  summary.dead_inputs =
      static_cast<std::uint64_t>(std::ranges::count_if(diagonal, [&](double v) { return v <= dead; }));
  summary.abs_max = std::ranges::max(file_.read<float>(input + "/abs_max", summary.inputs));
  return summary;
}

}  // namespace adze
