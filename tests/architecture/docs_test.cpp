// The documents say what is: tools and their options, recipe keys and names, exit codes, links and paths.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "architecture/documents.h"
#include "base/error.h"
#include "evaluate/protocol.h"
#include "export/exporter.h"
#include "grid/grid.h"
#include "model/architecture.h"
#include "solve/solver.h"
#include "transform/transform.h"

namespace adze::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

const std::string kCommonSection = "Options of every tool";

std::string page(const std::string& path) { return read_repository_file(path).text; }

std::string help_of(const std::string& program) {
  const CommandResult result = run_command(std::string("'") + ADZE_BIN_DIR + "/" + program + "' --help");
  EXPECT_EQ(result.exit_code, 0) << program;
  EXPECT_FALSE(result.output.empty()) << program;
  return result.output;
}

std::set<std::string> union_of(std::set<std::string> a, const std::set<std::string>& b) {
  a.insert(b.begin(), b.end());
  return a;
}

TEST(Tools, EveryToolHasASectionWithItsOptionsAndNoOthers) {
  const std::string tools = page("docs/tools.md");
  const std::set<std::string> common = options_of_tables(section_of(tools, kCommonSection));
  EXPECT_FALSE(common.empty());
  for (const std::string& program : program_names()) {
    const std::string section = section_of(tools, program);
    EXPECT_FALSE(section.empty()) << "docs/tools.md has no heading '" << program << "'";
    EXPECT_EQ(union_of(common, options_of_tables(section)), options_of_help(help_of(program))) << program;
  }
}

TEST(Tools, EveryToolIsAVerbAndEveryVerbATool) {
  std::set<std::string> verbs;
  for (const std::string& line : lines_of(help_of("adze")))
    if (line.starts_with("  ") && line[2] >= 'a' && line[2] <= 'z' && !line.starts_with("  adze"))
      verbs.insert("adze-" + line.substr(2, line.find(' ', 2) - 2));
  const std::vector<std::string> programs = program_names();
  EXPECT_EQ(verbs, std::set<std::string>(programs.begin(), programs.end()));
}

TEST(Tools, ThePageListsTheExitCodesOfEveryKindOfError) {
  std::set<int> listed;
  for (const std::string& line : lines_of(section_of(page("docs/tools.md"), "Exit codes")))
    if (line.starts_with("| ") && line[2] >= '0' && line[2] <= '9') listed.insert(std::stoi(line.substr(2)));
  std::set<int> known{0};
  for (const ErrorKind kind :
       {ErrorKind::gate, ErrorKind::usage, ErrorKind::bad_data, ErrorKind::missing_input, ErrorKind::internal,
        ErrorKind::out_of_memory, ErrorKind::cannot_create, ErrorKind::io, ErrorKind::stopped, ErrorKind::bad_recipe})
    known.insert(static_cast<int>(kind));
  EXPECT_EQ(listed, known);
}

TEST(RecipePage, NamesEveryKeyThatTheReaderAsksFor) {
  std::set<std::string> keys;
  for (const char* folder : {"lib/recipe", "lib/solve", "lib/transform", "lib/grid", "lib/pipeline"})
    for (const TextFile& file : files_below(folder, {".cpp"})) keys = union_of(keys, keys_asked_for(file.text));
  ASSERT_THAT(keys, ::testing::IsSupersetOf({"calibration", "rules", "damp", "scope", "interleave"}));
  EXPECT_THAT(missing_names(keys, page("docs/recipe.md")), IsEmpty());
}

TEST(RecipePage, NamesEveryGridSolverTransformAndExportFormat) {
  std::set<std::string> names;
  for (const std::string& grid : grid_names()) names.insert(grid);
  for (const SolverInfo& solver : solvers()) names.emplace(solver.name);
  for (const TransformInfo& transform : transforms()) names.emplace(transform.name);
  for (const ExporterInfo& exporter : exporters()) names.emplace(exporter.name);
  EXPECT_THAT(missing_names(names, page("docs/recipe.md")), IsEmpty());
}

TEST(Readme, NamesEveryArchitectureThatIsRead) {
  std::set<std::string> names;
  for (const FamilyInfo& family : families()) names.emplace(family.hf_class);
  EXPECT_THAT(missing_names(names, page("README.md")), IsEmpty());
}

TEST(Documents, EveryLinkLeadsSomewhere) {
  const std::vector<TextFile> all = documents();
  ASSERT_GE(all.size(), 6u);
  std::vector<std::string> findings;
  for (const TextFile& document : all)
    for (std::string& finding : check_links_in(document)) findings.push_back(std::move(finding));
  EXPECT_THAT(findings, IsEmpty()) << joined(findings);
}

TEST(Documents, EveryPathThatIsNamedExists) {
  std::vector<std::string> findings;
  for (const TextFile& document : documents())
    for (std::string& finding : check_paths_in(document)) findings.push_back(std::move(finding));
  EXPECT_THAT(findings, IsEmpty()) << joined(findings);
}

// The checks above can fail:

TEST(DocumentChecks, FindLinksToMissingFilesAndHeadings) {
  EXPECT_THAT(check_links_in({"README.md", "[a](docs/no-such-page.md) [b](https://example.org/x.md)\n"}),
              ElementsAre(HasSubstr("README.md:1: link to docs/no-such-page.md")));
  EXPECT_THAT(check_links_in({"docs/x.md", "# One thing\n[a](#one-thing) [b](#another) [c](../README.md)\n"}),
              ElementsAre(HasSubstr("docs/x.md:2: #another names no heading")));
  EXPECT_THAT(check_links_in({"docs/x.md", "```\n[a](missing.md)\n```\n"}), IsEmpty());
}

TEST(DocumentChecks, FindMissingPathsButLeavePatternsAlone) {
  EXPECT_THAT(check_paths_in({"a.md", "see `lib/base/error.h`, lib/nowhere/x.h and tests/*/x.cpp, recipes/*.yaml."}),
              ElementsAre("a.md:1: names lib/nowhere/x.h, which does not exist"));
  EXPECT_THAT(check_paths_in({"a.md", "OUT/docs/x stays; `bash apps/nothing.sh` does not"}),
              ElementsAre(HasSubstr("apps/nothing.sh")));
}

TEST(DocumentChecks, ReadOptionsOfHelpAndOfTables) {
  EXPECT_THAT(options_of_help("Usage: x [OPTIONS]\n  -h,--help     Print\n  --json        as JSON --not-this\nplain\n"),
              UnorderedElementsAre("-h", "--help", "--json"));
  EXPECT_THAT(options_of_tables("| `-o`, `--output OUT` | uses `--other` |\n| `RECIPE` | x |\n`--prose`\n"),
              UnorderedElementsAre("-o", "--output"));
}

TEST(DocumentChecks, ReadSectionsAndKeys) {
  EXPECT_EQ(section_of("# A\nx\n## B\ny\n### C\nz\n## D\n", "B"), "## B\ny\n### C\nz\n");
  EXPECT_EQ(section_of("# A\n", "B"), "");
  EXPECT_THAT(keys_asked_for("map.required(\"set\").word(); options.optional(\"damp\").real(0, 1)"),
              UnorderedElementsAre("damp", "set"));
  EXPECT_THAT(missing_names({"damp", "set"}, "the key `set`, and dampening `damping`"), ElementsAre("damp"));
}

}  // namespace
}  // namespace adze::testing
