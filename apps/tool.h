// What every program shares: common options, progress on stderr, exit codes, Ctrl-C; and how models are opened.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "base/progress.h"
#include "pipeline/open_model.h"

namespace adze {

struct CommonOptions {
  int threads = 0;  ///< 0: one per core
  bool json = false;
  bool quiet = false;
  bool verbose = false;
};

/// A program: declare options on app(), then run() the body with parsed values.
///   Tool tool("adze-x", "Does x.", "adze x in -o out");
///   tool.app().add_option(...);
///   return tool.run(argc, argv, [&] { ... });
class Tool {
 public:
  /// `examples`: command lines for --help, one per line.
  Tool(const std::string& name, const std::string& purpose, const std::string& examples);
  ~Tool();

  CLI::App& app() { return app_; }
  const CommonOptions& options() const { return options_; }
  Progress& progress() { return *progress_; }

  /// Parses and runs `body`; every error becomes one message on stderr and the exit code of its kind.
  int run(int argc, char** argv, const std::function<void()>& body);

  /// Results, to stdout.
  static void print(const std::string& text);

 private:
  CLI::App app_;
  CommonOptions options_;
  std::unique_ptr<Progress> progress_;
};

/// Declares --base. `options` must outlive the parsing.
inline void add_base_option(CLI::App& app, OpenModelOptions& options) {
  app.add_option_function<std::string>(
         "--base", [&options](const std::string& model) { options.base = model; },
         "of a delta (adze delta): the model that it is the difference from")
      ->type_name("MODEL");
}

/// Declares --source, --trust and --base, the same in every tool that opens models. `options` must outlive the parsing.
inline void add_model_options(CLI::App& app, OpenModelOptions& options) {
  app.add_option_function<std::string>(
         "--source", [&options](const std::string& folder) { options.source = folder; },
         "where the checkpoint of a model store lies now")
      ->type_name("DIR");
  add_base_option(app, options);
  app.add_flag("--trust", options.trust, "open a model store although its checksum does not match");
}

/// Declares --weights-only, of tools that do without an architecture. `options` must outlive the parsing.
inline void add_weights_only_option(CLI::App& app, OpenModelOptions& options) {
  options.takes_lists = true;
  app.add_flag("--weights-only", options.weights_only,
               "of a folder: take its tensors by names and shapes alone, whatever its architecture; nothing is run");
}

/// Memory that is freed is used again instead of given back and faulted in anew, which for buffers of few sizes that
/// come and go takes longer than filling them. All threads share one heap, which never shrinks below its peak: for
/// tools that predict no memory.
void keep_freed_memory();

/// Declares --memory, the same in every tool that holds a model's states. `limit`: bytes.
void add_memory_option(CLI::App& app, std::optional<std::uint64_t>& limit);

}  // namespace adze
