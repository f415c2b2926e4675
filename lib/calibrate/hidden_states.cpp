#include "calibrate/hidden_states.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "base/parallel.h"

namespace adze {
namespace {

/// Tokens per single-precision product: a longer sum loses digits, a shorter one wastes the matrix product.
constexpr std::size_t kSliceTokens = 512;
constexpr std::size_t kBatchTokens = 4096;

StatesLayout checked(StatesLayout layout) {
  if (layout.tokens == 0) fail(ErrorKind::internal, "hidden states of windows without tokens");
  const std::size_t slice = slice_windows(layout.tokens);
  layout.batch_windows = round_up(std::max<std::size_t>(layout.batch_windows, 1), slice);
  return layout;
}

StatesLayout layout_of(ConstViewF values, std::size_t tokens) {
  if (tokens == 0 || values.rows() % tokens != 0)
    fail(ErrorKind::internal, "{} hidden states are not windows of {}", values.rows(), tokens);
  return {values.rows() / tokens, tokens, values.cols(), batch_windows(tokens), false};
}

std::span<std::byte> bytes_of(ViewF view) {
  return std::as_writable_bytes(std::span(view.data(), view.shape().count()));
}

}  // namespace

std::size_t slice_windows(std::size_t tokens) { return std::max<std::size_t>(kSliceTokens / tokens, 1); }

std::size_t batch_windows(std::size_t tokens) {
  const std::size_t windows = std::max<std::size_t>(kBatchTokens / tokens, static_cast<std::size_t>(thread_count()));
  return round_up(windows, slice_windows(tokens));
}

HiddenStates::HiddenStates(const StatesLayout& layout) : layout_(checked(layout)) {
  const std::size_t held = layout_.on_disk ? std::min(layout_.batch_windows, layout_.windows) : layout_.windows;
  values_ = MatrixF(held * layout_.tokens, layout_.hidden);
}

HiddenStates::HiddenStates(ConstViewF values, std::size_t tokens) : HiddenStates(layout_of(values, tokens)) {
  for (std::size_t r = 0; r < values.rows(); ++r) std::ranges::copy(values.row(r), values_.row(r).begin());
}

std::size_t HiddenStates::batches() const { return divide_up(layout_.windows, layout_.batch_windows); }

std::size_t HiddenStates::windows_of(std::size_t batch) const {
  return std::min(layout_.batch_windows, layout_.windows - first_window(batch));
}

std::uint64_t HiddenStates::offset_of(std::size_t batch) const {
  return std::uint64_t{first_window(batch)} * layout_.tokens * layout_.hidden * sizeof(float);
}

bool HiddenStates::is_stored(std::size_t batch) const {
  return unsaved_ != nullptr && unsaved_->bytes_written() > offset_of(batch);
}

void HiddenStates::begin(std::filesystem::path file) {
  unsaved_.reset();
  file_ = std::move(file);
}

ViewF HiddenStates::load(std::size_t batch) {
  const std::size_t rows = windows_of(batch) * layout_.tokens;
  if (!layout_.on_disk) return values_.view().row_range(first_window(batch) * layout_.tokens, rows);
  const ViewF view = values_.view().row_range(0, rows);
  if (is_stored(batch)) {
    unsaved_->read_back(offset_of(batch), bytes_of(view));
  } else if (saved_) {
    saved_->read(offset_of(batch), bytes_of(view));
  }  // else the first pass is about to fill it
  return view;
}

void HiddenStates::store(std::size_t batch) {
  if (!layout_.on_disk) return;
  if (file_.empty()) fail(ErrorKind::internal, "hidden states are stored before begin()");
  if (!unsaved_) unsaved_ = std::make_unique<OutputFile>(file_);
  const auto bytes = bytes_of(values_.view().row_range(0, windows_of(batch) * layout_.tokens));
  if (is_stored(batch)) {
    unsaved_->write_at(offset_of(batch), bytes);
  } else if (unsaved_->bytes_written() == offset_of(batch)) {
    unsaved_->write(bytes);
  } else {
    fail(ErrorKind::internal, "{}: batch {} of hidden states is stored before those in front of it", file_.string(),
         batch);
  }
}

void HiddenStates::save() {
  if (!layout_.on_disk) {
    OutputFile file(file_);
    file.write(std::as_bytes(values_.values()));
    file.commit();
    return;
  }
  if (!unsaved_ || unsaved_->bytes_written() != std::uint64_t{layout_.shape().count()} * sizeof(float))
    fail(ErrorKind::internal, "{}: saved before every batch was stored", file_.string());
  unsaved_->commit();
  unsaved_.reset();
  saved_.emplace(file_);
}

void HiddenStates::open(const std::filesystem::path& file) {
  InputFile input(file);
  const std::uint64_t expected = std::uint64_t{layout_.shape().count()} * sizeof(float);
  if (input.size() != expected)
    fail(ErrorKind::bad_data, "{}: {} bytes, hidden states of this run have {}", file.string(), input.size(), expected);
  unsaved_.reset();
  if (layout_.on_disk) {
    saved_.emplace(std::move(input));
  } else {
    input.read(0, std::as_writable_bytes(values_.values()));
  }
}

HiddenStates HiddenStates::detached(std::filesystem::path file) const {
  if (unsaved_) fail(ErrorKind::internal, "{}: detached from before it was saved", file_.string());
  HiddenStates copy(layout_);
  copy.begin(std::move(file));
  if (!layout_.on_disk) copy.values_ = values_;
  if (saved_) copy.saved_.emplace(saved_->path());
  return copy;
}

MatrixF HiddenStates::values() {
  MatrixF all(layout_.shape());
  for (std::size_t b = 0; b < batches(); ++b) {
    const ViewF x = load(b);
    std::copy_n(x.data(), x.shape().count(), all.row(first_window(b) * layout_.tokens).data());
  }
  return all;
}

}  // namespace adze
