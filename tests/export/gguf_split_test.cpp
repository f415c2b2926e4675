// Exports in several files: names, keys and sizes as the format wants them, read by a parser that shares nothing with
// the writer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/gguf_writer.h"
#include "export/export_testing.h"
#include "export/gguf/split.h"
#include "export/plain_gguf.h"

namespace adze {
namespace {

using namespace testing;
namespace fs = std::filesystem;

constexpr std::uint32_t kUint16 = 2, kInt32 = 5;

const Exporter& exporter() {
  static const std::unique_ptr<Exporter> instance = find_exporter("gguf")->make();
  return *instance;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

ExportPlan split_plan(const ModelWeights& model, std::uint64_t max_bytes) {
  ExportPlan plan = plan_of(model);
  plan.split_max_bytes = max_bytes;
  return plan;
}

TEST(GgufSplitExport, FillsFilesUpToTheLimitWithTheTensorsOfTheWholeFile) {
  const ModelWeights& model = *demo().model;
  const TempFolder folder;
  export_gguf(model, folder / "whole.gguf");
  const PlainGguf whole(folder / "whole.gguf");
  for (const std::uint64_t limit : {std::uint64_t{2500000}, std::uint64_t{4} << 20, std::uint64_t{9} << 20}) {
    SCOPED_TRACE(limit);
    const TempFolder out;
    const ExportPlan plan = split_plan(model, limit);
    const std::uint64_t predicted = exporter().predict_bytes(plan);
    const std::vector<fs::path> files = exporter().files(plan, out / "m.gguf");
    exporter().write(plan, model, out / "m.gguf", silent_progress());
    ASSERT_GT(files.size(), 1u);
    std::vector<std::string> expected_names;
    for (std::size_t i = 0; i < files.size(); ++i) {
      expected_names.push_back(fmt::format("m-{:05}-of-{:05}.gguf", i + 1, files.size()));
      EXPECT_EQ(files[i], out / expected_names.back());
    }
    EXPECT_EQ(names_in(out.path()), expected_names);

    std::uint64_t total = 0;
    std::vector<std::string> order;
    std::map<std::string, PlainTensor> tensors;
    for (std::size_t i = 0; i < files.size(); ++i) {
      PlainGguf part(files[i]);
      EXPECT_LE(part.file_bytes, limit);
      total += part.file_bytes;
      EXPECT_EQ(part.get<std::uint16_t>("split.no", kUint16), i);
      EXPECT_EQ(part.get<std::uint16_t>("split.count", kUint16), files.size());
      EXPECT_EQ(part.get<std::int32_t>("split.tensors.count", kInt32), static_cast<std::int32_t>(whole.order.size()));
      for (const char* const key : {"split.no", "split.count", "split.tensors.count"}) part.keys.erase(key);
      EXPECT_EQ(part.keys, i == 0 ? whole.keys : decltype(whole.keys)());
      order.insert(order.end(), part.order.begin(), part.order.end());
      tensors.merge(part.tensors);
    }
    EXPECT_EQ(total, predicted);
    EXPECT_EQ(order, whole.order);
    EXPECT_EQ(tensors, whole.tensors);
    const GgufWeights read(files.front());
    EXPECT_EQ(read.head()->decode(), model.head()->decode());
  }
}

TEST(GgufSplitExport, WritesOneOrdinaryFileWhenItFits) {
  const ModelWeights& model = *demo().model;
  const TempFolder folder;
  export_gguf(model, folder / "whole.gguf");
  const ExportPlan plan = split_plan(model, fs::file_size(folder / "whole.gguf"));
  EXPECT_EQ(exporter().files(plan, "m.gguf"), std::vector<fs::path>{"m.gguf"});
  exporter().write(plan, model, folder / "m.gguf", silent_progress());
  EXPECT_TRUE(read_file(folder / "m.gguf") == read_file(folder / "whole.gguf"));
  const ExportPlan one_less = split_plan(model, fs::file_size(folder / "whole.gguf") - 1);
  EXPECT_EQ(exporter().files(one_less, "m.gguf").size(), 2u);
}

GgufContent content_of(std::vector<std::uint64_t> kib) {
  GgufContent content;
  content.metadata = {{"general.architecture", std::string("llama")}};
  for (std::size_t i = 0; i < kib.size(); ++i) content.tensors.push_back({fmt::format("t{}", i), 0, {256 * kib[i]}});
  return content;
}

std::vector<std::size_t> counts_of(const std::vector<GgufPart>& parts) {
  std::vector<std::size_t> counts;
  for (const GgufPart& part : parts) counts.push_back(part.tensors.size());
  return counts;
}

TEST(GgufSplit, NeverExceedsTheLimitAndNeverLeavesRoomForTheNextTensor) {
  const GgufContent content = content_of({4, 1, 2, 8, 3, 3, 1, 1, 7, 2, 2});
  for (std::uint64_t limit = 9 << 10; limit < 38 << 10; limit += 333) {
    const std::vector<GgufPart> parts = split_gguf(content, limit);
    std::size_t tensors = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      tensors += parts[i].tensors.size();
      EXPECT_LE(predict_gguf_bytes(parts[i].metadata, parts[i].tensors), limit);
      if (i + 1 == parts.size()) continue;
      std::vector<GgufTensorSpec> more = parts[i].tensors;
      more.push_back(parts[i + 1].tensors.front());
      EXPECT_GT(predict_gguf_bytes(parts[i].metadata, more), limit);
    }
    EXPECT_EQ(tensors, content.tensors.size());
  }
}

TEST(GgufSplit, LeavesTheFirstFileWithoutTensorsWhenOnlyTheMetadataFit) {
  GgufContent content = content_of({4, 4});
  content.metadata.push_back({"general.description", std::string(1500, 'x')});
  EXPECT_EQ(counts_of(split_gguf(content, 5 << 10)), (std::vector<std::size_t>{0, 1, 1}));
}

TEST(GgufSplit, SaysWhatDoesNotFit) {
  expect_error(ErrorKind::bad_data, "tensor 't1' takes", [] { split_gguf(content_of({1, 9, 1}), 8 << 10); });
  GgufContent content = content_of({1, 1});
  content.metadata.push_back({"general.description", std::string(5000, 'x')});
  expect_error(ErrorKind::bad_data, "the metadata alone take", [&] { split_gguf(content, 4 << 10); });
  expect_error(ErrorKind::usage, "must end with .gguf",
               [] { exporter().files(split_plan(*demo().model, 4 << 20), "model.bin"); });
}

TEST(GgufSplitExport, LeavesNoFileWhenOneCannotBeWritten) {
  const TempFolder folder;
  class Broken final : public FormattedModel {
   public:
    Broken() : FormattedModel(*demo().model, all_in("bf16")) {}
    std::vector<float> final_norm() const override { return std::vector<float>(256, NAN); }
  };
  const Broken model;
  expect_error(ErrorKind::bad_data, "tensor 'output_norm.weight': non-finite",
               [&] { exporter().write(split_plan(model, 4 << 20), model, folder / "m.gguf", silent_progress()); });
  EXPECT_TRUE(names_in(folder.path()).empty());
}

}  // namespace
}  // namespace adze
