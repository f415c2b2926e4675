// Errors of the library: bad input, I/O trouble and our own bugs, each with the exit code a tool returns for it.
//
// An Error carries a chain of contexts added on the way up, so that the message reads from the outside in:
//   model.safetensors: tensor 'model.norm.weight': non-finite value at element 17
// The library throws; it never prints and never exits. Expected outcomes are return values, not errors.
#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace adze {

/// What went wrong. The value is the exit code (sysexits where one fits; docs/tools.md lists them).
enum class ErrorKind : int {
  gate = 1,            ///< a stated quality gate failed
  usage = 64,          ///< wrong command line
  bad_data = 65,       ///< malformed, inconsistent or unsupported input data
  missing_input = 66,  ///< an input does not exist or cannot be opened
  internal = 70,       ///< our bug
  out_of_memory = 71,
  cannot_create = 73,  ///< an output exists or cannot be created
  io = 74,             ///< reading or writing failed half way
  stopped = 75,        ///< stopped safely: run again to go on
  bad_recipe = 78,
};

class Error : public std::exception {
 public:
  Error(ErrorKind kind, std::string message) : kind_(kind), message_(std::move(message)) {}

  ErrorKind kind() const noexcept { return kind_; }
  int exit_code() const noexcept { return static_cast<int>(kind_); }
  const char* what() const noexcept override { return message_.c_str(); }
  const std::string& message() const noexcept { return message_; }

  /// Puts `context: ` before the message.
  Error& add_context(std::string_view context) {
    message_ = fmt::format("{}: {}", context, message_);
    return *this;
  }

 private:
  ErrorKind kind_;
  std::string message_;
};

/// Throws an Error with a checked format string.
template <typename... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

/// Runs `body`; an Error that leaves it gets `context` in front.
template <typename Body>
decltype(auto) with_context(std::string_view context, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (Error& error) {
    error.add_context(context);
    throw;
  }
}

}  // namespace adze
