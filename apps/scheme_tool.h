// What adze-quantize, adze-prune and adze-factorize share: their options, and from these to a compressed folder. They
// differ in what a scheme must have.
#pragma once

#include <string>
#include <vector>

#include "recipe/scheme_arguments.h"
#include "tool.h"

namespace adze {

/// Options as they are typed; empty: not given.
struct SchemeToolOptions {
  std::string model;
  std::string stats;
  std::string grid;
  std::string solver;  ///< with the program's default
  std::string sparsity;
  std::string keep;
  std::string rank;
  std::string group;
  std::string symmetric;
  std::vector<std::string> options;
  std::string modules = "layers.**";
  std::string fallback;
  std::string out;
  bool data_free = false;
  bool overwrite = false;
  bool dry_run = false;
  OpenModelOptions open;
};

/// Declares all options but --sparsity, --keep and --rank. `options` must outlive the parsing.
void add_scheme_options(CLI::App& app, SchemeToolOptions& options);

/// The whole job, or with --dry-run its checks and sizes. Throws usage as prepare_scheme (pipeline/apply_scheme.h).
void run_scheme_tool(const SchemeToolOptions& options, Tool& tool);

}  // namespace adze
