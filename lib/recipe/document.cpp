#include "recipe/document.h"

#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "base/error.h"
#include "base/file.h"

namespace adze {
namespace {

/// yaml-cpp's complaint and ours: what a person who wrote the line can act on.
struct Translation {
  std::string_view theirs;
  std::string_view ours;
};
constexpr Translation kTranslations[] = {
    {"illegal map value", "':' is not expected here; indent like the lines around, or quote the value"},
    {"the referenced anchor is not defined",
     "'*' starts a YAML alias, which is not supported; quote a value that begins with '*'"},
    {"unknown token", "this character cannot start a value; quote the value"},
    {"end of sequence flow not found", "'[' without its ']'"},
    {"end of map flow not found", "'{' without its '}'"},
    {"illegal flow end", "closing bracket without its opening one"},
    {"illegal EOF in scalar", "a quoted text has no end"},
    {"illegal block entry", "a list item ('- ') is not expected here; indent it like its neighbours"},
    {"end of map not found", "this line fits neither the map nor the list above; check its indentation"},
    {"end of sequence not found", "this line fits neither the map nor the list above; check its indentation"},
};

std::string translate(std::string_view message) {
  for (const Translation& known : kTranslations)
    if (message == known.theirs) return std::string(known.ours);
  return std::string(message);
}

bool is_unclosed(std::string_view message) {
  return message.starts_with("end of ") && message.ends_with("flow not found");
}

/// Builds our tree from parser events; checks limits before anything is kept.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(Diagnostics& problems) : problems_(problems), text_(problems.source()->text()) {
    root_.where = {0};  // stays when the file holds no node at all
  }

  Node take_root() { return std::move(root_); }
  /// Where the innermost open list or map began.
  Mark innermost() const { return open_.empty() ? Mark{} : open_.back().where; }

  /// Ends parsing with this problem and all found before it.
  [[noreturn]] void stop(Mark where, std::string message) const {
    problems_.add(where, std::move(message));
    throw Error(ErrorKind::bad_recipe, problems_.format_all());
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1)
      stop(mark_of(mark), "a second YAML document starts here; a file holds one (check for '---' and for indentation)");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { add(make(NodeKind::null, mark, "?", anchor)); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    problems_.add(mark_of(mark), "aliases ('*name') are not supported; write the value out");
    add(make(NodeKind::refused, mark, "?", 0));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node = make(NodeKind::scalar, mark, tag, anchor);
    node.quoted = tag == "!";
    node.text = value;
    if (node.quoted) check_closed(node.where);
    add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(make(NodeKind::list, mark, tag, anchor));
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(make(NodeKind::map, mark, tag, anchor));
  }
  void OnMapEnd() override {
    check_keys(open_.back());
    close();
  }

 private:
  static Mark mark_of(const YAML::Mark& mark) { return {mark.pos < 0 ? 0 : static_cast<std::size_t>(mark.pos)}; }

  /// yaml-cpp's tags: "?" for a plain node, "!" for quoted text, anything else was written in the file.
  Node make(NodeKind kind, const YAML::Mark& mark, std::string_view tag, YAML::anchor_t anchor) {
    Node node;
    node.kind = kind;
    node.where = mark_of(mark);
    if (++nodes_ > kMaxYamlNodes) stop(node.where, fmt::format("more than {} values in one file", kMaxYamlNodes));
    if (anchor != 0) problems_.add(node.where, "anchors ('&name') are not supported; write the value out each time");
    if (!tag.empty() && tag != "?" && tag != "!")
      problems_.report(node.where, "tags ({}) are not supported; quotes make a value text", quoted_for_message(tag));
    return node;
  }

  void open(Node node) {
    if (open_.size() == kMaxYamlDepth) stop(node.where, fmt::format("nested more than {} levels deep", kMaxYamlDepth));
    open_.push_back(std::move(node));
  }

  void close() {
    Node node = std::move(open_.back());
    open_.pop_back();
    add(std::move(node));
  }

  void add(Node node) {
    if (open_.empty())
      root_ = std::move(node);
    else
      open_.back().children.push_back(std::move(node));
  }

  /// yaml-cpp takes the end of the file for the end of a quoted text.
  void check_closed(Mark start) const {
    const char quote = start.offset < text_.size() ? text_[start.offset] : '\0';
    if (quote != '"' && quote != '\'') return;  // a block of text, or a tag already reported
    for (std::size_t i = start.offset + 1; i < text_.size(); ++i) {
      if (text_[i] == '\\' && quote == '"')
        ++i;
      else if (text_[i] == quote && !(quote == '\'' && text_.substr(i + 1).starts_with('\'')))
        return;
      else if (text_[i] == quote)
        ++i;
    }
    stop(start, "the quoted text that starts here has no end");
  }

  /// Reports what cannot be a key and drops those entries, so that readers see unique plain keys.
  void check_keys(Node& map) {
    std::map<std::string, Mark> seen;
    std::vector<Node> kept;
    for (std::size_t i = 0; i < map.entry_count(); ++i) {
      const Node& key = map.key(i);
      if (is_usable_key(key) && is_first(seen, key)) {
        kept.push_back(std::move(map.children[2 * i]));
        kept.push_back(std::move(map.children[2 * i + 1]));
      }
    }
    map.children = std::move(kept);
  }

  bool is_usable_key(const Node& key) {
    if (key.kind == NodeKind::scalar && (key.text != "<<" || key.quoted)) return true;
    if (key.kind == NodeKind::scalar)
      problems_.add(key.where, "merge keys ('<<') are not supported; write the keys out");
    else if (key.kind == NodeKind::null)
      problems_.add(key.where, "a key is missing before ':'");
    else if (key.kind != NodeKind::refused)
      problems_.add(key.where, "a key is one word, not a list or a map");
    return false;
  }

  bool is_first(std::map<std::string, Mark>& seen, const Node& key) {
    const auto [first, is_new] = seen.emplace(key.text, key.where);
    if (!is_new)
      problems_.report(key.where, "duplicate key {}; it stands in line {} already", quoted_for_message(key.text),
                       problems_.source()->line_of(first->second));
    return is_new;
  }

  Diagnostics& problems_;
  std::string_view text_;
  std::vector<Node> open_;
  Node root_;
  std::size_t nodes_ = 0;
  std::size_t documents_ = 0;
};

Node parse_tree(Diagnostics& problems) {
  TreeBuilder builder(problems);
  // With a line break at the end, an open quote reaches check_closed(), which knows where it began.
  std::istringstream stream(problems.source()->text() + "\n");
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    const Mark where{error.mark.pos < 0 ? 0 : static_cast<std::size_t>(error.mark.pos)};
    builder.stop(is_unclosed(error.msg) ? builder.innermost() : where, translate(error.msg));
  }
  return builder.take_root();
}

[[noreturn]] void refuse_size(const std::string& origin, std::uint64_t bytes) {
  fail(ErrorKind::bad_recipe, "{}: {} bytes, more than the {} a YAML file may have here", origin, bytes,
       kMaxSourceBytes);
}

}  // namespace

Document Document::load(const std::filesystem::path& path) {
  const std::uint64_t bytes = InputFile(path).size();
  if (bytes > kMaxSourceBytes) refuse_size(path.string(), bytes);
  return parse(read_file(path, kMaxSourceBytes), path.string());
}

Document Document::parse(std::string text, std::string origin) {
  if (text.size() > kMaxSourceBytes) refuse_size(origin, text.size());
  Document document(Diagnostics(std::make_shared<const Source>(std::move(text), std::move(origin))));
  for (ByteProblem& problem : document.source()->byte_problems())
    document.problems_.add(problem.where, std::move(problem.message));
  document.problems_.throw_if_any();
  document.root_ = parse_tree(document.problems_);
  return document;
}

}  // namespace adze
