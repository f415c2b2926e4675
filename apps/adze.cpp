// adze VERB ...: runs adze-VERB, which lies beside this program.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/words.h"

namespace {

struct Verb {
  const char* name;
  const char* purpose;
};
constexpr std::array kVerbs{
    Verb{"compress", "recipe + checkpoint -> compressed model, exports and a judgement"},
    Verb{"eval", "perplexity and divergence from a reference model"},
    Verb{"export", "compressed model -> a file that other runtimes load"},
    Verb{"import", "checkpoint -> model store, every tensor checked"},
    Verb{"calibrate", "checkpoint + text -> statistics of every layer's input"},
    Verb{"quantize", "model + statistics -> quantized model, one grid and one solver"},
    Verb{"prune", "model + statistics -> pruned model, one sparsity and one solver"},
    Verb{"allocate", "recipe with a budget + statistics -> recipe with a scheme for every matrix"},
    Verb{"factorize", "model + statistics -> products of smaller matrices, one solver"},
    Verb{"delta", "base + fine-tuned model -> what they differ by, in a pack"},
    Verb{"generate", "model -> calibration text that it writes itself"},
    Verb{"compare", "calibration sets -> which one, how much of it, and whether it matters"},
    Verb{"inspect", "what a file or folder is, what it holds, whether it is whole"},
};

std::string help() {
  std::string text = "adze " ADZE_VERSION
                     ": compresses trained models, without a GPU, Python or a network.\n\nadze VERB [OPTIONS]\n\n";
  for (const Verb& verb : kVerbs) text += fmt::format("  {:<10} {}\n", verb.name, verb.purpose);
  return text + "\nadze VERB --help says more. Start with:\n  adze compress recipes/q4_k.yaml MODEL -o OUT\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs(help().c_str(), stderr);
    return static_cast<int>(adze::ErrorKind::usage);
  }
  const std::string verb = argv[1];
  if (verb == "--help" || verb == "-h" || verb == "--version") {
    std::fputs(verb == "--version" ? "adze " ADZE_VERSION "\n" : help().c_str(), stdout);
    return 0;
  }
  std::vector<std::string> names;
  for (const Verb& known : kVerbs) names.emplace_back(known.name);
  if (std::find(names.begin(), names.end(), verb) == names.end()) {
    fmt::print(stderr, "adze: error: unknown verb '{}'{}\n{}", verb, adze::suggestion(verb, names), help());
    return static_cast<int>(adze::ErrorKind::usage);
  }
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string program = (self.parent_path() / ("adze-" + verb)).string();
  argv[1] = const_cast<char*>(program.c_str());
  ::execv(program.c_str(), argv + 1);
  fmt::print(stderr, "adze: error: cannot run {}: {}\n", program, std::system_category().message(errno));
  return static_cast<int>(adze::ErrorKind::missing_input);
}
