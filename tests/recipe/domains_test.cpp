#include "recipe/domains.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/checkpoint_testing.h"
#include "recipe/errors.h"

namespace adze {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Domains : public ::testing::Test {
 protected:
  std::string text(const std::string& name) const { return folder_.put(name, "words\n").string(); }
  std::vector<std::string> names(const std::vector<std::string>& arguments) const {
    std::vector<std::string> found;
    for (const Domain& domain : load_domains(arguments)) found.push_back(domain.name);
    return found;
  }
  std::string refusal(const std::vector<std::string>& arguments) const {
    try {
      load_domains(arguments);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      return error.message();
    }
    return "";
  }

  testing::TempFolder folder_;
};

TEST_F(Domains, OfOneTextAreOneThatIsCalledByItsPath) {
  const std::string path = text("wiki.txt");
  EXPECT_THAT(names({path}), ElementsAre(path));
  EXPECT_THAT(names({"prose=" + path}), ElementsAre("prose"));
}

TEST_F(Domains, OfSeveralTextsAreCalledByTheirFilesOrByGivenNames) {
  EXPECT_THAT(names({text("wiki.txt"), "python=" + text("code.txt")}), ElementsAre("wiki", "python"));
}

TEST_F(Domains, OfATextSetAreThoseItNames) {
  const std::string set = folder_
                              .put("set.yaml",
                                   "adze_text: 1\ntexts:\n  - { file: a.txt, domain: prose }\n"
                                   "  - { file: b.txt, domain: code }\n  - { file: c.txt, domain: prose }\n")
                              .string();
  const std::vector<Domain> domains = load_domains(std::vector{set});
  ASSERT_EQ(domains.size(), 2U);
  EXPECT_EQ(domains[0].name, "prose");
  ASSERT_EQ(domains[0].texts.texts.size(), 2U);
  EXPECT_EQ(domains[0].texts.texts[1].file.filename(), "c.txt");
  EXPECT_EQ(domains[1].texts.texts.size(), 1U);
  EXPECT_THAT(names({set, text("wiki.txt")}), ElementsAre("prose", "code", "wiki"));
  EXPECT_THAT(refusal({"all=" + set}), HasSubstr("cannot be called 'all'"));
}

TEST_F(Domains, RefuseNamesThatOccurTwiceOrAreEmpty) {
  EXPECT_THAT(refusal({text("a.txt"), "a=" + text("b.txt")}), HasSubstr("the domain 'a' is given twice"));
  EXPECT_THAT(refusal({"=" + text("a.txt")}), HasSubstr("NAME=FILE"));
}

TEST_F(Domains, AFileWithAnEqualsSignInItsNameIsAFile) {
  const std::string path = text("x=y.txt");
  EXPECT_THAT(names({path}), ElementsAre(path));
}

TEST_F(Domains, AreOfAllTextsOfASetOrOfNone) {
  EXPECT_THAT(testing::recipe_error([] {
                parse_text_set("adze_text: 1\ntexts:\n  - { file: a.txt, domain: prose }\n  - { file: b.txt }\n", "s");
              }),
              HasSubstr("either all have a 'domain' or none has"));
}

}  // namespace
}  // namespace adze
