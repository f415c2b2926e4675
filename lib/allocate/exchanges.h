// Exchanges within a choice: one unit takes an option that loses less, another one a cheaper option that pays for it.
// They come one at a time, least change of the loss first; the pairs, in number the square of the options, are never
// listed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <queue>
#include <span>
#include <tuple>
#include <vector>

#include "allocate/knapsack.h"

namespace adze {

struct Exchange {
  std::size_t up, up_option, down, down_option;
  double change;  ///< of the summed loss
};

class Exchanges {
 public:
  /// choice: of each unit's options. cost_room, work_room: what the sums may grow by.
  Exchanges(std::span<const AllocationUnit> units, std::span<const std::size_t> choice, std::uint64_t cost_room,
            std::optional<std::uint64_t> work_room);

  Exchanges(const Exchanges&) = delete;
  Exchanges& operator=(const Exchanges&) = delete;

  /// Nothing when there are no more. Equals come by units and options, `up` first.
  std::optional<Exchange> next();

 private:
  /// Another option of a unit.
  struct Change {
    std::size_t unit, option;
    double loss;              ///< more than now
    std::int64_t cost, work;  ///< likewise
  };
  /// The best partner, by number, of an `up` among downs [first, last).
  struct Candidate {
    double change;
    std::size_t up, down, first, last;
  };
  struct IsLater {
    const Exchanges& all;
    bool operator()(const Candidate& a, const Candidate& b) const { return all.place(a) > all.place(b); }
  };

  std::tuple<double, std::size_t, std::size_t, std::size_t> place(const Candidate& candidate) const {
    const Change& down = downs_[candidate.down];
    return {candidate.change, candidate.up, down.unit, down.option};
  }
  std::size_t least(std::size_t a, std::size_t b) const;
  std::size_t least_in(std::size_t first, std::size_t last) const;
  void push(std::size_t up, std::size_t first, std::size_t last);

  std::optional<std::uint64_t> work_room_;
  std::vector<Change> ups_;         ///< by unit and option
  std::vector<Change> downs_;       ///< those that save most first
  std::vector<std::size_t> least_;  ///< a binary tree over downs_: number of the one of least loss below each node
  std::priority_queue<Candidate, std::vector<Candidate>, IsLater> candidates_;
};

}  // namespace adze
