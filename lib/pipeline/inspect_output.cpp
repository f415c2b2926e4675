// An Inspection as text and as JSON.
#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include "pipeline/inspect.h"
#include "pipeline/inspect_statistics.h"
#include "report/escaped.h"
#include "report/table.h"

namespace adze {
namespace {

using Json = nlohmann::ordered_json;

std::string printable(std::string_view text) { return escaped(text); }

struct InWords {
  std::string operator()(const std::string& value) const { return printable(value); }
  std::string operator()(std::uint64_t value) const { return fmt::format("{}", value); }
  std::string operator()(double value) const { return fmt::format("{:.6g}", value); }
  std::string operator()(bool value) const { return value ? "yes" : "no"; }
  std::string operator()(const std::vector<std::string>& values) const {
    return printable(fmt::format("{}", fmt::join(values, ", ")));
  }
};

std::string property_lines(const Inspection& inspection) {
  std::size_t width = 0;
  for (const InspectProperty& property : inspection.properties) width = std::max(width, property.name.size());
  std::string text;
  for (const InspectProperty& property : inspection.properties) {
    std::string name = property.name;
    std::ranges::replace(name, '_', ' ');
    text += fmt::format("  {:<{}}  {}\n", name, width, std::visit(InWords(), property.value));
  }
  return text;
}

std::string metadata_table(const Inspection& inspection) {
  Table table({{"key", Align::left}, {"type", Align::left}, {"value", Align::left}});
  for (const InspectKey& line : inspection.metadata)
    table.add_row({printable(line.key), line.type, printable(line.value)});
  return table.text();
}

std::string format_table(const Inspection& inspection) {
  Table table({{"type", Align::left}, {"tensors"}, {"weights"}, {"bytes"}, {"bits/weight"}});
  for (const InspectFormat& line : inspection.formats())
    table.add_row({line.type, fmt::format("{}", line.tensors), fmt::format("{}", line.weights),
                   fmt::format("{}", line.bytes), fmt::format("{:.3f}", line.bits_per_weight())});
  return table.text();
}

std::string tensor_table(const Inspection& inspection) {
  Table table({{"tensor", Align::left}, {"type", Align::left}, {"shape", Align::left}, {"bytes"}});
  for (const InspectTensor& tensor : inspection.tensors)
    table.add_row({printable(tensor.name), tensor.type, fmt::format("{}", fmt::join(tensor.shape, " x ")),
                   fmt::format("{}", tensor.bytes)});
  return table.text();
}

std::string verdict(const Inspection& inspection) {
  if (inspection.damage.empty()) return "verified: no damage found\n";
  std::string text = fmt::format("damaged: {} finding(s)\n", inspection.damage.size());
  for (const std::string& finding : inspection.damage) text += "  " + printable(finding) + "\n";
  return text;
}

Json properties_json(const Inspection& inspection) {
  Json json = Json::object();
  for (const InspectProperty& property : inspection.properties)
    std::visit([&](const auto& value) { json[property.name] = value; }, property.value);
  return json;
}

Json formats_json(const Inspection& inspection) {
  Json json = Json::array();
  for (const InspectFormat& line : inspection.formats())
    json.push_back({{"type", line.type},
                    {"tensors", line.tensors},
                    {"weights", line.weights},
                    {"bytes", line.bytes},
                    {"bits_per_weight", line.bits_per_weight()}});
  return json;
}

}  // namespace

std::string inspection_text(const Inspection& inspection, bool with_tensors) {
  std::string text = fmt::format("{}: {}\n{}", inspection.path.string(), inspection.kind, property_lines(inspection));
  if (!inspection.metadata.empty()) text += "\n" + metadata_table(inspection);
  if (!inspection.tensors.empty()) text += "\n" + format_table(inspection);
  if (!inspection.statistics.empty()) text += "\n" + statistics_table(inspection.statistics);
  if (with_tensors && !inspection.tensors.empty()) text += "\n" + tensor_table(inspection);
  if (inspection.verified) text += "\n" + verdict(inspection);
  return text;
}

std::string inspection_json(const Inspection& inspection, bool with_tensors) {
  Json json{{"path", inspection.path.string()}, {"kind", inspection.kind}, {"properties", properties_json(inspection)}};
  if (!inspection.tensors.empty()) json["types"] = formats_json(inspection);
  for (const InspectKey& line : inspection.metadata)
    json["metadata"].push_back({{"key", line.key}, {"type", line.type}, {"value", line.value}});
  if (!inspection.statistics.empty()) json["statistics"] = statistics_json(inspection.statistics);
  if (with_tensors)
    for (const InspectTensor& tensor : inspection.tensors)
      json["tensors"].push_back(
          {{"name", tensor.name}, {"type", tensor.type}, {"shape", tensor.shape}, {"bytes", tensor.bytes}});
  if (inspection.verified) json["damage"] = inspection.damage;
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";  // GGUF texts need not be UTF-8
}

std::string printable_lines(std::string_view message) { return escaped(message, '\n'); }

}  // namespace adze
