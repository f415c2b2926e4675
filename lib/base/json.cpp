#include "base/json.h"

#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace adze {
namespace {

using nlohmann::json;

/// Builds the document and watches depth and duplicate keys on the way.
class StrictBuilder : public nlohmann::detail::json_sax_dom_parser<json> {
  using Base = nlohmann::detail::json_sax_dom_parser<json>;

 public:
  StrictBuilder(json& result, std::string_view origin, std::size_t max_depth)
      : Base(result, /*allow_exceptions=*/false), origin_(origin), max_depth_(max_depth) {}

  bool start_object(std::size_t size) {
    enter();
    keys_.emplace_back();
    return Base::start_object(size);
  }
  bool end_object() {
    --depth_;
    keys_.pop_back();
    return Base::end_object();
  }
  bool start_array(std::size_t size) {
    enter();
    return Base::start_array(size);
  }
  bool end_array() {
    --depth_;
    return Base::end_array();
  }
  bool key(json::string_t& name) {
    if (!keys_.back().insert(name).second) fail(ErrorKind::bad_data, "{}: duplicate JSON key '{}'", origin_, name);
    return Base::key(name);
  }
  bool parse_error(std::size_t position, const std::string& /*token*/, const json::exception& error) {
    fail(ErrorKind::bad_data, "{}: byte {}: {}", origin_, position, error.what());
  }

 private:
  void enter() {
    if (++depth_ > max_depth_) fail(ErrorKind::bad_data, "{}: JSON nested deeper than {}", origin_, max_depth_);
  }

  std::string_view origin_;
  std::size_t max_depth_;
  std::size_t depth_ = 0;
  std::vector<std::set<std::string>> keys_;
};

}  // namespace

json parse_json(std::string_view text, std::string_view origin, std::size_t max_depth) {
  // The parser would take a NUL for the end of the text and skip a byte order mark.
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos)
    fail(ErrorKind::bad_data, "{}: byte {}: NUL in JSON", origin, nul);
  if (text.starts_with("\xEF\xBB\xBF")) fail(ErrorKind::bad_data, "{}: JSON with a byte order mark", origin);
  json root;
  StrictBuilder builder(root, origin, max_depth);
  if (!json::sax_parse(text.begin(), text.end(), &builder))
    fail(ErrorKind::bad_data, "{}: not valid JSON", origin);
  return root;
}

}  // namespace adze
