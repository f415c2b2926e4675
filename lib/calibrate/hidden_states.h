// The hidden states of all windows, [windows * tokens x hidden] floats, in memory or in a file with one batch of
// windows in memory. Loops go through them batch by batch, in order, and look the same in both cases:
//
//   states.begin(next);                       what is stored from here on belongs to the file `next`
//   for (std::size_t b = 0; b < states.batches(); ++b) {
//     const ViewF x = states.load(b);         [batch windows * tokens x hidden], valid until the next load
//     ... change x ...
//     states.store(b);                        only when x was changed
//   }
//   states.save();                            `next` is durable under its name; the file before it is left alone
//
// Batches are whole slices of windows (slice_windows), so that no sum over windows depends on where states lie, on the
// size of a batch or on the number of threads. In a file, what a pass has not stored yet is read from the file saved
// last; nothing is written twice. Two streams of states with the same layout can be walked side by side: each has its
// own batch in memory. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/file.h"
#include "base/matrix.h"

namespace adze {

/// Windows whose inputs are summed in one single-precision product: as many as fit 512 tokens, at least one.
std::size_t slice_windows(std::size_t tokens);

/// Windows that are held together: at least 4096 tokens and one window per thread, in whole slices.
std::size_t batch_windows(std::size_t tokens);

struct StatesLayout {
  std::size_t windows = 0;
  std::size_t tokens = 0;  ///< per window
  std::size_t hidden = 0;
  std::size_t batch_windows = 0;  ///< rounded up to whole slices
  bool on_disk = false;

  Shape shape() const { return {windows * tokens, hidden}; }
};

class HiddenStates {
 public:
  /// Zero in memory; on disk without content until the first pass has stored it. Throws internal for windows of no
  /// tokens.
  explicit HiddenStates(const StatesLayout& layout);
  /// In memory, a copy of `values`: [windows * tokens x hidden]. Throws internal unless they are whole windows.
  HiddenStates(ConstViewF values, std::size_t tokens);

  const StatesLayout& layout() const { return layout_; }
  std::size_t tokens() const { return layout_.tokens; }
  std::size_t hidden() const { return layout_.hidden; }
  std::size_t batches() const;
  /// First window of a batch, and how many it has.
  std::size_t first_window(std::size_t batch) const { return batch * layout_.batch_windows; }
  std::size_t windows_of(std::size_t batch) const;

  /// Starts a file; what an unsaved one held is lost. Nothing is created before the first store().
  void begin(std::filesystem::path file);
  ViewF load(std::size_t batch);
  void store(std::size_t batch);
  /// Writes (in memory) or completes (on disk) the file of begin(). Throws internal when not every batch was stored.
  void save();
  /// Continues from a saved file. Throws bad_data unless it has the size of the layout.
  void open(const std::filesystem::path& file);

  /// The same states for a pass that must not move these: on disk its changes go to `file`, which never gets its name.
  /// Throws internal on disk while stored batches are unsaved.
  HiddenStates detached(std::filesystem::path file) const;
  /// All states: [windows * tokens x hidden].
  MatrixF values();

 private:
  std::uint64_t offset_of(std::size_t batch) const;
  bool is_stored(std::size_t batch) const;

  StatesLayout layout_;
  MatrixF values_;  ///< in memory: all; on disk: one batch
  std::filesystem::path file_;
  std::unique_ptr<OutputFile> unsaved_;
  std::optional<InputFile> saved_;
};

}  // namespace adze
