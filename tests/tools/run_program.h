// Runs one of the real programs as a user would: arguments in, exit code, stdout and stderr out. It can be interrupted
// by a signal at a moment that the caller recognizes, and has a file size limit that makes writes fail half way.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace adze::testing {

using Clock = std::chrono::steady_clock;

struct Interruption {
  int signal = SIGKILL;
  std::function<bool()> when;  ///< asked about every millisecond
};

struct ProgramOptions {
  std::optional<Interruption> interruption;
  std::optional<std::uint64_t> largest_file;  ///< bytes; a longer write fails as on a full disk
  std::chrono::seconds patience{120};         ///< then it is killed and the test fails
};

struct ProgramResult {
  int exit_code = -1;  ///< minus the signal when one ended it
  std::string out;
  std::string err;
  bool interrupted = false;
  std::chrono::milliseconds after_signal{0};  ///< from the interruption to the end
};

/// A moment `delay` from now.
inline std::function<bool()> after(std::chrono::milliseconds delay) {
  return [end = Clock::now() + delay] { return Clock::now() >= end; };
}
/// The moment a file or folder appears.
inline std::function<bool()> when_exists(std::filesystem::path path) {
  return [path = std::move(path)] { return std::filesystem::exists(path); };
}

namespace detail {

struct Pipe {
  std::array<int, 2> ends{-1, -1};
  Pipe() {
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
  }
  ~Pipe() {
    for (const int end : ends)
      if (end >= 0) ::close(end);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void close_writer() {
    ::close(ends[1]);
    ends[1] = -1;
  }
};

[[noreturn]] inline void become(const std::string& program, std::vector<char*>& argv, const ProgramOptions& options,
                                const Pipe& out, const Pipe& err) {
  ::dup2(out.ends[1], STDOUT_FILENO);
  ::dup2(err.ends[1], STDERR_FILENO);
  if (options.largest_file) {
    ::signal(SIGXFSZ, SIG_IGN);  // so that write() says EFBIG
    const rlimit limit{*options.largest_file, *options.largest_file};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ::execv(program.c_str(), argv.data());
  ::_exit(127);
}

/// Appends what is there; false at the end.
inline bool drain(int descriptor, std::string& text) {
  std::array<char, 4096> piece;
  const ssize_t got = ::read(descriptor, piece.data(), piece.size());
  if (got > 0) text.append(piece.data(), static_cast<std::size_t>(got));
  return got > 0 || (got < 0 && errno == EINTR);
}

}  // namespace detail

/// Runs ADZE_BIN_DIR/`tool` to its end. Throws when it cannot be started or outlasts the patience.
inline ProgramResult run_program(const std::string& tool, std::vector<std::string> arguments,
                                 const ProgramOptions& options = {}) {
  std::string program = std::string(ADZE_BIN_DIR) + "/" + tool;
  std::vector<char*> argv{program.data()};
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  detail::Pipe out;
  detail::Pipe err;
  const pid_t child = ::fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (child == 0) detail::become(program, argv, options, out, err);
  out.close_writer();
  err.close_writer();
  ProgramResult result;
  Clock::time_point signalled;
  const Clock::time_point deadline = Clock::now() + options.patience;
  bool out_open = true;
  bool err_open = true;
  while (out_open || err_open) {
    std::array<pollfd, 2> polled{pollfd{out_open ? out.ends[0] : -1, POLLIN, 0},
                                 {err_open ? err.ends[0] : -1, POLLIN, 0}};
    ::poll(polled.data(), polled.size(), options.interruption && !result.interrupted ? 1 : 100);
    if (polled[0].revents != 0) out_open = detail::drain(out.ends[0], result.out);
    if (polled[1].revents != 0) err_open = detail::drain(err.ends[0], result.err);
    if (options.interruption && !result.interrupted && options.interruption->when()) {
      ::kill(child, options.interruption->signal);
      signalled = Clock::now();
      result.interrupted = true;
    }
    if (Clock::now() > deadline) ::kill(child, SIGKILL);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  if (result.interrupted)
    result.after_signal = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - signalled);
  if (Clock::now() > deadline) throw std::runtime_error(tool + " did not end in time");
  return result;
}

}  // namespace adze::testing
