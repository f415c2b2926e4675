// Names of files being written: what a signal handler removes, and what it must leave alone.
#include "base/temporaries.h"

#include <gtest/gtest.h>

#include <climits>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/file.h"

namespace adze {
namespace {

namespace fs = std::filesystem;

class Temporaries : public ::testing::Test {
 protected:
  Temporaries() {
    std::string name = (fs::temp_directory_path() / "adze-temporaries-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~Temporaries() override { fs::remove_all(folder_); }

  fs::path make(const std::string& name) const {
    std::ofstream(folder_ / name) << "half";
    return folder_ / name;
  }

  fs::path folder_;
};

TEST_F(Temporaries, RemovesWhatIsRegisteredAndNothingElse) {
  const fs::path writing = make("a.tmp");
  const fs::path forgotten = make("b.tmp");
  const fs::path other = make("c.tmp");
  EXPECT_TRUE(register_temporary(writing));
  EXPECT_TRUE(register_temporary(forgotten));
  forget_temporary(forgotten);
  unlink_temporaries();
  EXPECT_FALSE(fs::exists(writing));
  EXPECT_TRUE(fs::exists(forgotten));
  EXPECT_TRUE(fs::exists(other));
  forget_temporary(writing);
}

TEST_F(Temporaries, RemovesARegisteredFolderWithWhatIsInItAndFollowsNoLink) {
  fs::create_directories(folder_ / "out.tmp/store/deep");
  const fs::path other = make("other");
  make("out.tmp/report");
  make("out.tmp/store/deep/block");
  for (int i = 0; i < 300; ++i) make("out.tmp/store/block-" + std::to_string(i));  // more than one read gives
  fs::create_symlink(folder_, folder_ / "out.tmp/up");
  EXPECT_TRUE(register_temporary_folder(folder_ / "out.tmp"));
  unlink_temporaries();
  EXPECT_FALSE(fs::exists(folder_ / "out.tmp"));
  EXPECT_TRUE(fs::exists(other));
  forget_temporary(folder_ / "out.tmp");
  fs::create_directory(folder_ / "out.tmp");
  unlink_temporaries();
  EXPECT_TRUE(fs::exists(folder_ / "out.tmp"));
}

TEST_F(Temporaries, NamesThatDoNotFitAreRefused) {
  EXPECT_FALSE(register_temporary(std::string(PATH_MAX, 'x')));
  std::vector<fs::path> names;
  for (std::size_t i = 0; i < kMostTemporaries; ++i)
    EXPECT_TRUE(register_temporary(names.emplace_back(folder_ / std::to_string(i))));
  EXPECT_FALSE(register_temporary(folder_ / "one more"));
  for (const fs::path& name : names) forget_temporary(name);
  EXPECT_TRUE(register_temporary(folder_ / "one more"));
  forget_temporary(folder_ / "one more");
}

TEST_F(Temporaries, AnOutputIsOneOnlyUntilItIsCommitted) {
  OutputFile half(folder_ / "half");
  OutputFile whole(folder_ / "whole");
  whole.commit();
  make("whole.tmp");  // of somebody else
  unlink_temporaries();
  EXPECT_FALSE(fs::exists(folder_ / "half.tmp"));
  EXPECT_TRUE(fs::exists(folder_ / "whole"));
  EXPECT_TRUE(fs::exists(folder_ / "whole.tmp"));
}

TEST_F(Temporaries, AnOutputThatCannotBeCreatedLeavesNoName) {
  const fs::path path = folder_ / "later" / "file";
  EXPECT_ANY_THROW(OutputFile{path});
  fs::create_directory(folder_ / "later");
  const fs::path other = make("later/file.tmp");
  unlink_temporaries();
  EXPECT_TRUE(fs::exists(other));
}

}  // namespace
}  // namespace adze
