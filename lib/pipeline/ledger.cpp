#include "pipeline/ledger.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/words.h"
#include "pipeline/ledger.pb.h"

namespace adze {
namespace {

constexpr std::uint32_t kLedgerVersion = 1;
constexpr std::uint64_t kLargestLedger = std::uint64_t{1} << 30;

/// In front of every message, little-endian.
struct Frame {
  std::uint32_t bytes = 0;
  std::uint32_t bytes_check = 0;  // of `bytes` alone, so that a damaged length is not taken for a torn record
  std::uint64_t checksum = 0;     // hash64 of the message
};

std::uint32_t check_of(std::uint32_t bytes) {
  return static_cast<std::uint32_t>(hash64({reinterpret_cast<const char*>(&bytes), sizeof bytes}));
}

/// A crash of the machine may leave a file longer than what was written, filled with zeros.
bool is_blank(std::string_view bytes) { return bytes.find_first_not_of('\0') == std::string_view::npos; }

LedgerFile from_proto(const ledger::File& file) { return {file.path(), file.bytes(), file.hash()}; }

void to_proto(const LedgerFile& file, ledger::File& out) {
  out.set_path(file.path);
  out.set_bytes(file.bytes);
  out.set_hash(file.hash);
}

TensorRecord from_proto(const ledger::TensorReport& t) {
  TensorRecord record{t.module(), t.format(), t.bytes(), {}, t.seconds()};
  record.report = {t.loss(), t.relative_loss(), t.damping(), static_cast<std::size_t>(t.dead_inputs()), t.fallback()};
  return record;
}

void to_proto(const TensorRecord& record, ledger::TensorReport& out) {
  out.set_module(record.module);
  out.set_format(record.format);
  out.set_bytes(record.bytes);
  out.set_loss(record.report.loss);
  out.set_relative_loss(record.report.relative_loss);
  out.set_damping(record.report.damping);
  out.set_dead_inputs(record.report.dead_inputs);
  out.set_fallback(record.report.fallback);
  out.set_seconds(record.seconds);
}

CommittedStep from_proto(const ledger::Committed& committed) {
  CommittedStep step;
  step.step = committed.step();
  for (const auto& file : committed.stored()) step.stored.push_back(from_proto(file));
  if (committed.has_states()) step.states = from_proto(committed.states());
  if (committed.has_reference()) step.reference = from_proto(committed.reference());
  for (const auto& tensor : committed.tensors()) step.tensors.push_back(from_proto(tensor));
  return step;
}

void to_proto(const CommittedStep& step, ledger::Committed& out) {
  out.set_step(step.step);
  for (const LedgerFile& file : step.stored) to_proto(file, *out.add_stored());
  if (step.states) to_proto(*step.states, *out.mutable_states());
  if (step.reference) to_proto(*step.reference, *out.mutable_reference());
  for (const TensorRecord& tensor : step.tensors) to_proto(tensor, *out.add_tensors());
}

ledger::Record started_record(const RunIngredients& ingredients) {
  ledger::Record record;
  ledger::Started& started = *record.mutable_started();
  started.set_version(kLedgerVersion);
  for (const auto& [name, value] : ingredients) (*started.mutable_ingredients())[name] = value;
  return record;
}

void check_started(const ledger::Started& started, const RunIngredients& ingredients,
                   const std::set<std::string>& ignored, const std::filesystem::path& path) {
  if (started.version() != kLedgerVersion)
    fail(ErrorKind::bad_data, "{}: ledger version {}, this program writes {}", path.string(), started.version(),
         kLedgerVersion);
  std::vector<std::string> differences;
  for (const auto& [name, value] : ingredients) {
    if (ignored.contains(name)) continue;
    const auto before = started.ingredients().find(name);
    if (before == started.ingredients().end() || before->second != value) differences.push_back(name);
  }
  if (differences.empty()) return;
  fail(ErrorKind::cannot_create,
       "{}: an unfinished run with another {}; finish that one, choose another -o, or start anew with --restart",
       path.parent_path().parent_path().string(), join_words(differences));
}

}  // namespace

LedgerFile describe_file(const std::filesystem::path& folder, const std::string& path) {
  return {path, InputFile(folder / path).size(), hash_file(folder / path)};
}

bool is_intact(const std::filesystem::path& folder, const LedgerFile& file) {
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(folder / file.path, error);
  return !error && size == file.bytes && hash_file(folder / file.path) == file.hash;
}

Ledger::Ledger(std::filesystem::path path, const RunIngredients& ingredients, const std::set<std::string>& ignored)
    : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0)
    fail(ErrorKind::cannot_create, "{}: cannot open: {}", path_.string(), std::system_category().message(errno));
  try {
    replay(ingredients, ignored);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

Ledger::~Ledger() { ::close(descriptor_); }

void Ledger::replay(const RunIngredients& ingredients, const std::set<std::string>& ignored) {
  const std::string bytes = read_file(path_, kLargestLedger);
  std::size_t position = 0;
  bool started = false;
  const auto refuse = [&] {
    fail(ErrorKind::bad_data, "{}: damaged record at byte {}; start anew with --restart, or choose another -o",
         path_.string(), position);
  };
  while (bytes.size() - position >= sizeof(Frame)) {
    Frame frame;
    std::memcpy(&frame, bytes.data() + position, sizeof frame);
    const std::size_t rest = bytes.size() - position - sizeof frame;
    if (is_blank(std::string_view(bytes).substr(position))) break;
    if (frame.bytes_check != check_of(frame.bytes)) refuse();
    if (frame.bytes > rest) break;  // torn
    const std::string_view message(bytes.data() + position + sizeof frame, frame.bytes);
    ledger::Record record;
    const bool whole =
        hash64(message) == frame.checksum && record.ParseFromArray(message.data(), static_cast<int>(message.size()));
    const bool last = frame.bytes == rest;
    if (!whole && last) break;  // torn: the length arrived, the content did not
    if (!whole) refuse();
    if (record.has_started()) {
      check_started(record.started(), ingredients, ignored, path_);
      started = true;
    }
    if (record.has_committed()) accept(from_proto(record.committed()));
    position += sizeof frame + frame.bytes;
  }
  if (::ftruncate(descriptor_, static_cast<off_t>(position)) != 0 ||
      ::lseek(descriptor_, 0, SEEK_END) != static_cast<off_t>(position))
    fail(ErrorKind::io, "{}: cannot cut a torn record off: {}", path_.string(), std::system_category().message(errno));
  if (!started) append(started_record(ingredients).SerializeAsString());
}

void Ledger::append(const std::string& message) {
  const auto length = checked_cast<std::uint32_t>(message.size());
  const Frame frame{length, check_of(length), hash64(message)};
  std::string bytes(reinterpret_cast<const char*>(&frame), sizeof frame);
  bytes += message;
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t written = ::write(descriptor_, bytes.data() + done, bytes.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(ErrorKind::io, "{}: cannot write: {}", path_.string(), std::system_category().message(errno));
    done += static_cast<std::size_t>(written);
  }
  if (::fsync(descriptor_) != 0)
    fail(ErrorKind::io, "{}: cannot sync: {}", path_.string(), std::system_category().message(errno));
}

void Ledger::commit(const CommittedStep& step) {
  ledger::Record record;
  to_proto(step, *record.mutable_committed());
  append(record.SerializeAsString());
  accept(step);
}

void Ledger::accept(CommittedStep step) {
  steps_.erase(steps_.upper_bound(step.step), steps_.end());
  const std::uint32_t number = step.step;
  steps_[number] = std::move(step);
}

}  // namespace adze
