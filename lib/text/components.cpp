#include <array>
#include <string>
#include <string_view>

#include "base/error.h"
#include "text/components.h"
#include "text/json_fields.h"

namespace adze {
namespace {

using nlohmann::json;

using Ids = std::vector<std::int32_t>;

void put_before(Ids& ids, const Ids& more) { ids.insert(ids.begin(), more.begin(), more.end()); }
void put_after(Ids& ids, const Ids& more) { ids.insert(ids.end(), more.begin(), more.end()); }

/// The ids that a template's SpecialToken name stands for.
Ids special_ids(const JsonFields& fields, const std::string& name) {
  const JsonFields specials(fields.object("special_tokens"), fields.where() + ": special_tokens");
  const JsonFields entry(specials.required(name), specials.where() + ": '" + name + "'");
  Ids ids;
  for (const json& id : entry.array("ids")) ids.push_back(token_id_from(id, entry.where()));
  return ids;
}

void add_template(const JsonFields& fields, Affixes& affixes) {
  Affixes around;
  bool seen = false;
  const json& items = fields.array("single");
  for (std::size_t i = 0; i < items.size(); ++i) {
    const JsonFields item(items[i], fmt::format("{}: single[{}]", fields.where(), i));
    if (const json* special = item.find("SpecialToken")) {
      const std::string name = JsonFields(*special, item.where()).text("id");
      put_after(seen ? around.suffix : around.prefix, special_ids(fields, name));
      continue;
    }
    const std::string name = JsonFields(item.required("Sequence"), item.where()).text("id");
    if (name != "A" || seen) item.refuse("a template for one sequence must contain sequence 'A' once");
    seen = true;
  }
  if (!seen) fields.refuse("the template for one sequence lacks sequence 'A'");
  put_before(affixes.prefix, around.prefix);
  put_after(affixes.suffix, around.suffix);
}

/// "cls" or "sep": [text, id].
std::int32_t id_of_pair(const JsonFields& fields, std::string_view name) {
  const json& pair = fields.array(name);
  if (pair.size() != 2) fields.refuse(fmt::format("'{}' must be a text and an id", name));
  return token_id_from(pair[1], fmt::format("{}: '{}'", fields.where(), name));
}

void add_cls_and_sep(const JsonFields& fields, Affixes& affixes) {
  put_before(affixes.prefix, {id_of_pair(fields, "cls")});
  put_after(affixes.suffix, {id_of_pair(fields, "sep")});
}

void add_nothing(const JsonFields&, Affixes&) {}  // ByteLevel adjusts offsets only

struct ProcessorType {
  std::string_view name;
  void (*add)(const JsonFields&, Affixes&);
};
constexpr std::array kProcessorTypes = {
    ProcessorType{"ByteLevel", add_nothing},
    ProcessorType{"TemplateProcessing", add_template},
    ProcessorType{"BertProcessing", add_cls_and_sep},
    ProcessorType{"RobertaProcessing", add_cls_and_sep},
};

}  // namespace

Affixes parse_post_processor(const json* value) {
  Affixes affixes;
  if (value == nullptr) return affixes;
  for_each_part(*value, "post_processor", "processors", [&](const JsonFields& fields, const std::string& type) {
    for (const ProcessorType& known : kProcessorTypes)
      if (known.name == type) return known.add(fields, affixes);
    fields.refuse(fmt::format("post-processor type '{}' is not supported", type));
  });
  return affixes;
}

void check_byte_level_decoder(const json* value) {
  if (value == nullptr) fail(ErrorKind::bad_data, "decoder is null; byte-level BPE needs ByteLevel there");
  bool byte_level = false;
  for_each_part(*value, "decoder", "decoders", [&](const JsonFields& fields, const std::string& type) {
    if (type != "ByteLevel" && type != "Fuse") fields.refuse(fmt::format("decoder type '{}' is not supported", type));
    byte_level = byte_level || type == "ByteLevel";
  });
  if (!byte_level) fail(ErrorKind::bad_data, "decoder: ByteLevel is missing; byte-level BPE needs it");
}

}  // namespace adze
