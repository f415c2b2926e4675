// A tensor train (matrix product operator; CompactifAI, arXiv 2401.14109): rows and columns are numbered by digits,
// r = (i_1 ... i_N) and c = (j_1 ... j_N), the first digit the slowest, and
//   W[r, c] = G_1[i_1, j_1] G_2[i_2, j_2] ... G_N[i_N, j_N],   G_k[i, j] a matrix [bond_{k-1} x bond_k], bond_0 =
//   bond_N = 1.
// Core k is stored as a matrix [(bond_{k-1} m_k) x (n_k bond_k)]; the payload is that of the cores, one after the
// other.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grid/compressed_tensor.h"

namespace adze {

/// The digits of a train and its bonds.
struct TrainShape {
  std::vector<std::size_t> rows;   ///< m_k, N >= 2 of them
  std::vector<std::size_t> cols;   ///< n_k
  std::vector<std::size_t> bonds;  ///< N - 1, between the cores

  std::size_t cores() const { return rows.size(); }
  std::size_t bond_before(std::size_t core) const { return core == 0 ? 1 : bonds[core - 1]; }
  std::size_t bond_after(std::size_t core) const { return core + 1 == cores() ? 1 : bonds[core]; }
  Shape core(std::size_t k) const { return {bond_before(k) * rows[k], cols[k] * bond_after(k)}; }
  /// Of the whole matrix. Throws bad_data when it overflows.
  Shape whole() const;
  /// The largest bond after a core that is of any use: what its either side can hold.
  std::size_t most_bond(std::size_t core) const;
  /// Throws bad_data unless the numbers of digits and bonds agree and no bond is larger than is of use.
  void check() const;
  bool operator==(const TrainShape&) const = default;
};

class TrainTensor final : public CompressedTensor {
 public:
  using Part = std::shared_ptr<const CompressedTensor>;

  /// Throws bad_data unless there is a core of the right shape for each digit, all in one format.
  TrainTensor(TrainShape train, std::vector<Part> cores);

  const TrainShape& train() const { return train_; }
  const CompressedTensor& core(std::size_t k) const { return *cores_[k]; }

  Shape shape() const override { return train_.whole(); }
  std::uint64_t bytes() const override { return payload_.size(); }
  std::uint64_t multiplications() const override;
  std::string format() const override;
  /// Contracts the cores behind each first digit that the rows have; a row has the same bits however it is read.
  void decode_rows(std::size_t first, std::size_t count, std::span<float> out) const override;
  std::span<const std::byte> payload() const override { return payload_; }

 private:
  TrainShape train_;
  std::vector<Part> cores_;
  std::vector<std::byte> payload_;
};

struct TrainFormat {
  TrainShape train;
  std::string values;  ///< of every core
};

/// "train 16x16 by 16x48 bonds 64 [f16]".
std::string train_format(const TrainFormat& parts);
/// The inverse; nothing when the format is not that of a train. Throws bad_data for one that is malformed.
std::optional<TrainFormat> parse_train_format(const std::string& format);
/// Multiplications of one product with a vector: digit by digit from the first or from the last, whichever is cheaper.
std::uint64_t train_multiplications(const TrainShape& train);

}  // namespace adze
