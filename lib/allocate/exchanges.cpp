#include "allocate/exchanges.h"

#include <algorithm>

#include "base/checked.h"

namespace adze {
namespace {

std::int64_t growth(std::uint64_t now, std::uint64_t then) {
  return checked_cast<std::int64_t>(then) - checked_cast<std::int64_t>(now);
}

}  // namespace

Exchanges::Exchanges(std::span<const AllocationUnit> units, std::span<const std::size_t> choice,
                     std::uint64_t cost_room, std::optional<std::uint64_t> work_room)
    : work_room_(work_room), candidates_(IsLater{*this}) {
  for (std::size_t u = 0; u < units.size(); ++u)
    for (std::size_t o = 0; o < units[u].size(); ++o) {
      const AllocationOption &now = units[u][choice[u]], &then = units[u][o];
      const Change change{u, o, then.loss - now.loss, growth(now.cost, then.cost), growth(now.work, then.work)};
      if (then.loss < now.loss) ups_.push_back(change);
      if (change.cost < 0) downs_.push_back(change);
    }
  std::ranges::stable_sort(downs_, {}, &Change::cost);
  least_.resize(2 * downs_.size());
  for (std::size_t d = 0; d < downs_.size(); ++d) least_[downs_.size() + d] = d;
  for (std::size_t node = downs_.size(); node-- > 1;) least_[node] = least(least_[2 * node], least_[2 * node + 1]);
  const auto room = checked_cast<std::int64_t>(cost_room);
  for (std::size_t up = 0; up < ups_.size(); ++up) {
    const auto end = std::ranges::upper_bound(downs_, room - ups_[up].cost, {}, &Change::cost);
    push(up, 0, static_cast<std::size_t>(end - downs_.begin()));
  }
}

std::size_t Exchanges::least(std::size_t a, std::size_t b) const {
  const auto key = [&](std::size_t d) { return std::tuple(downs_[d].loss, downs_[d].unit, downs_[d].option); };
  return key(b) < key(a) ? b : a;
}

/// [first, last) is not empty.
std::size_t Exchanges::least_in(std::size_t first, std::size_t last) const {
  std::size_t found = first;
  for (first += downs_.size(), last += downs_.size(); first < last; first /= 2, last /= 2) {
    if (first % 2 == 1) found = least(found, least_[first++]);
    if (last % 2 == 1) found = least(found, least_[--last]);
  }
  return found;
}

void Exchanges::push(std::size_t up, std::size_t first, std::size_t last) {
  if (first == last) return;
  const std::size_t down = least_in(first, last);
  candidates_.push({ups_[up].loss + downs_[down].loss, up, down, first, last});
}

std::optional<Exchange> Exchanges::next() {
  while (!candidates_.empty()) {
    const Candidate best = candidates_.top();
    candidates_.pop();
    push(best.up, best.first, best.down);
    push(best.up, best.down + 1, best.last);
    const Change &up = ups_[best.up], &down = downs_[best.down];
    if (up.unit == down.unit) continue;
    if (work_room_ && up.work + down.work > checked_cast<std::int64_t>(*work_room_)) continue;
    return Exchange{up.unit, up.option, down.unit, down.option, best.change};
  }
  return std::nullopt;
}

}  // namespace adze
