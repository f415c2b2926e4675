// What solving one matrix once has given, kept in a folder under the hash of all that it depends on: weights, moments,
// scheme, version and kernels. A later run with the same matrix and scheme takes it from there, whatever else has
// changed (Optimal Brain Compression's database, arXiv 2208.11580). Numbers that take long to measure are kept
// likewise.
//
//   KEY.json   format, shape, bytes, hash of the payload and the solve's report; or {"numbers": [0.25]}
//   KEY.bin    the payload, where the bound on disk allows it
//
// Every file appears whole or not at all; what is damaged is made again. One process at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "solve/solver.h"

namespace adze {

struct Moments;
struct ResolvedScheme;

class SolutionStore {
 public:
  /// A folder beside the solutions, for models that they are of.
  static constexpr const char* kModels = "models";

  /// disk: the most bytes that payloads may take, those that are there included; 0: no bound. Throws cannot_create,
  /// also for a folder that holds anything else.
  explicit SolutionStore(std::filesystem::path folder, std::uint64_t disk = 0);

  /// Nothing unless report and payload are there and intact.
  std::optional<Solution> find(const std::string& key) const;
  /// A payload beyond the bound is not kept, nor is its report.
  void put(const std::string& key, const Solution& solution);

  std::optional<std::vector<double>> numbers(const std::string& key) const;
  void put_numbers(const std::string& key, const std::vector<double>& values);
  /// The same for one number; nothing where there are several.
  std::optional<double> number(const std::string& key) const;

  /// The folder with all that is in it, if it is there. Throws cannot_create when it holds anything else.
  static void remove(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  std::uint64_t found() const { return found_; }  ///< solutions that were not solved again
  void note_found() { ++found_; }
  std::uint64_t solved() const { return solved_; }
  std::uint64_t unkept() const { return unkept_; }  ///< of those, beyond the bound

 private:
  std::filesystem::path folder_;
  std::uint64_t disk_;
  std::uint64_t used_ = 0;
  std::uint64_t found_ = 0, solved_ = 0, unkept_ = 0;
};

/// Of what was measured for a stage, and hash of it, taken once for its matrices.
std::string moments_hash(const Moments& moments);

/// Of a matrix that a scheme solves with these moments, and with readers of its own (Problem::readers; empty: none).
std::string solution_key(const ResolvedScheme& scheme, const CompressedTensor& original, const std::string& moments,
                         ConstViewD reader);

}  // namespace adze
