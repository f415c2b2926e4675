// Importance matrices, as llama.cpp's llama-imatrix writes them and its quantizers read them: for every weight matrix
// the sum over tokens of the square of each input, that is the diagonal of H. Two kinds of files: GGUF with
// general.type "imatrix", and the older .dat.
//
// Both kinds are read and written exactly: what is read and written again has the same bytes if its entries are sorted
// and, in a .dat file, end with the name of the text. Refuses files that are cut, name a tensor twice, or hold sums
// that are negative or not finite.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace adze {

/// Of one weight matrix, or of `counts.size()` stacked ones (experts). The mean square of input j of matrix m is
/// sums[m * cols() + j] / counts[m].
struct ImatrixEntry {
  std::string tensor;             ///< GGUF name: "blk.0.attn_q.weight"
  std::vector<float> sums;        ///< [matrices x cols]
  std::vector<double> counts;     ///< [matrices]: tokens; in a .dat file one number of batches for all of them
  std::vector<float> plain_sums;  ///< as sums, of x instead of its square; empty: not measured
  std::size_t cols() const { return sums.size() / counts.size(); }
  /// Mean squares, as sums; 1 where a matrix was never used.
  std::vector<float> means() const;
  bool operator==(const ImatrixEntry&) const = default;
};

struct Imatrix {
  std::vector<ImatrixEntry> entries;  ///< sorted by tensor
  std::vector<std::string> datasets;  ///< texts that were measured
  std::uint32_t chunks = 0;
  std::uint32_t chunk_tokens = 0;  ///< per chunk; a .dat file does not say: 0

  /// nullptr when there is none.
  const ImatrixEntry* find(std::string_view tensor) const;
  bool operator==(const Imatrix&) const = default;
};

enum class ImatrixKind : std::uint8_t { gguf, dat };
std::string_view name_of(ImatrixKind kind);
/// By the ending: .gguf; .dat or .imatrix. Throws usage for another one.
ImatrixKind imatrix_kind_of(const std::filesystem::path& path);

/// By the content. `kind`, if given, is told which it was. Throws missing_input, bad_data.
Imatrix read_imatrix(const std::filesystem::path& path, ImatrixKind* kind = nullptr);
/// True for a GGUF file of that general.type, and for another file that can be read as .dat to its end.
bool is_imatrix(const std::filesystem::path& path);

/// Throws bad_data for what the kind cannot hold (a .dat file: counts that are no whole numbers below 2^31), or for
/// values that read_imatrix() refuses; cannot_create, io.
void write_imatrix(const std::filesystem::path& path, const Imatrix& imatrix, ImatrixKind kind);

}  // namespace adze
