#include "tool.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <new>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"
#include "base/parallel.h"
#include "base/temporaries.h"
#include "base/words.h"
#include "pipeline/inspect.h"

namespace adze {
namespace {

using Clock = std::chrono::steady_clock;

std::string in_words(double seconds) {
  const auto whole = static_cast<long>(seconds + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

/// A bar on a terminal, a line now and then elsewhere.
class ConsoleProgress final : public Progress {
 public:
  explicit ConsoleProgress(const CommonOptions& options) : options_(options), terminal_(::isatty(STDERR_FILENO) == 1) {}
  ~ConsoleProgress() override { end_line(); }

  void start(std::string_view what, std::uint64_t total) override {
    end_line();
    what_ = what;
    total_ = total;
    started_ = Clock::now();
    first_done_.reset();
    shown_percent_ = -1;
  }

  void update(std::uint64_t done) override {
    if (options_.quiet || total_ == 0) return;
    if (!first_done_) first_done_ = done;  // a resumed run begins in the middle
    const int percent = static_cast<int>(100 * done / total_);
    const int step = terminal_ ? 1 : 10;
    if (percent / step == shown_percent_ / step && shown_percent_ >= 0) return;
    shown_percent_ = percent;
    const std::string line = fmt::format("{} {:3}%{}", what_, percent, time_left(done));
    if (terminal_) {
      fmt::print(stderr, "\r\033[K{}", line);
      line_open_ = true;
    } else {
      fmt::print(stderr, "{}\n", line);
    }
    std::fflush(stderr);
  }

  void warn(const std::string& message) override {
    end_line();
    fmt::print(stderr, "warning: {}\n", printable_lines(message));
  }
  void note(const std::string& message) override {
    if (!options_.verbose) return;
    end_line();
    fmt::print(stderr, "{}\n", printable_lines(message));
  }

 private:
  std::string time_left(std::uint64_t done) const {
    if (done >= total_ || done <= *first_done_) return "";
    const double elapsed = std::chrono::duration<double>(Clock::now() - started_).count();
    const double left = elapsed / static_cast<double>(done - *first_done_) * static_cast<double>(total_ - done);
    return fmt::format(", about {} left", in_words(left));
  }
  void end_line() {
    if (line_open_) fmt::print(stderr, "\n");
    line_open_ = false;
  }

  const CommonOptions& options_;
  bool terminal_;
  std::string what_;
  std::uint64_t total_ = 0;
  std::optional<std::uint64_t> first_done_;
  Clock::time_point started_;
  int shown_percent_ = -1;
  bool line_open_ = false;
};

constexpr std::string_view kStopped = "\nadze: stopped; run the same command again\n";
constexpr std::string_view kInterrupted = "\nadze: stopped; nothing is lost: run the same command again to go on\n";
constexpr std::array<std::string_view, 2> kResuming = {"adze-calibrate", "adze-compress"};  // keep what is finished

const std::string_view* g_farewell = &kStopped;

/// Everything that matters is on disk before it counts, so leaving at once is safe.
extern "C" void leave_on_signal(int) {
  unlink_temporaries();
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, g_farewell->data(), g_farewell->size());
  ::_exit(static_cast<int>(ErrorKind::stopped));
}

/// Ends the program. Handlers that libraries have registered for the exit are not run: after a failed write (a full
/// disk) HDF5's would touch the file that it could not close, and crash.
[[noreturn]] void report(const std::string& name, const std::string& message, ErrorKind kind) {
  fmt::print(stderr, "{}: error: {}\n", name, printable_lines(message));
  std::fflush(nullptr);
  ::_exit(static_cast<int>(kind));
}

}  // namespace

namespace {

/// Makes resident memory follow what is alive, so that it can be predicted: by default malloc keeps freed blocks of up
/// to 32 MiB and 64 MiB of free heap, for each thread.
void return_freed_memory() {
  ::mallopt(M_MMAP_THRESHOLD, 4 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 4 << 20);
}

}  // namespace

void keep_freed_memory() {
  ::mallopt(M_ARENA_MAX, 1);
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

void add_memory_option(CLI::App& app, std::optional<std::uint64_t>& limit) {
  app.add_option_function<std::string>(
         "--memory",
         [&limit](const std::string& text) {
           limit = parse_bytes(text);
           if (!limit) fail(ErrorKind::usage, "--memory {}: write a number and a unit, such as 2GiB", text);
         },
         "keep within this much, e.g. 2GiB: smaller batches, states on disk; what cannot fit is refused")
      ->type_name("SIZE");
}

Tool::Tool(const std::string& name, const std::string& purpose, const std::string& examples)
    : app_(purpose, name), progress_(std::make_unique<ConsoleProgress>(options_)) {
  return_freed_memory();
  app_.footer(
      "Examples:\n" + examples +
      "\n\nExit codes: 0 ok, 1 a gate failed, 64 usage, 65 bad input, 66 missing input, 70 a bug of ours, 71 out "
      "of memory,\n73 cannot create output, 74 input/output error, 75 stopped safely (run again), 78 bad recipe.");
  app_.set_version_flag("--version", "adze " ADZE_VERSION);
  app_.add_option("--threads", options_.threads, "threads to use; 0: one per core")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  app_.add_flag("--json", options_.json, "print the result as JSON");
  app_.add_flag("-q,--quiet", options_.quiet, "no progress");
  app_.add_flag("-v,--verbose", options_.verbose, "more detail on stderr");
}

Tool::~Tool() = default;

void Tool::print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (std::fflush(stdout) != 0) fail(ErrorKind::io, "cannot write the result to stdout");
}

int Tool::run(int argc, char** argv, const std::function<void()>& body) {
  try {
    app_.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app_.exit(error);
    return code == 0 ? 0 : static_cast<int>(ErrorKind::usage);
  } catch (const Error& error) {  // an option whose text we parse ourselves
    report(app_.get_name(), error.message(), error.kind());
  }
  if (std::ranges::find(kResuming, app_.get_name()) != kResuming.end()) g_farewell = &kInterrupted;
  std::signal(SIGINT, leave_on_signal);
  std::signal(SIGTERM, leave_on_signal);
  const std::string name = app_.get_name();
  try {
    set_thread_count(options_.threads);
    body();
    progress_.reset();
    return 0;
  } catch (const Error& error) {
    progress_.reset();
    report(name, error.message(), error.kind());
  } catch (const std::bad_alloc&) {
    progress_.reset();
    report(name, "out of memory", ErrorKind::out_of_memory);
  } catch (const std::filesystem::filesystem_error& error) {
    progress_.reset();
    report(name, fmt::format("{}: {}", error.path1().string(), error.code().message()), ErrorKind::io);
  } catch (const std::exception& error) {
    progress_.reset();
    report(name, fmt::format("unexpected: {}", error.what()), ErrorKind::internal);
  }
}

}  // namespace adze
