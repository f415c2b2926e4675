// A model as adze understands it, for people: a tree of its parts with shapes, what shares an input, where norms and
// windows are, what can be folded into it and which runtimes can be given it. From its architecture alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "model/architecture.h"

namespace adze {

/// A part of the tree.
struct DescribedPart {
  std::size_t depth = 0;             ///< 0: of the model, 1: of a block, 2: of a stage
  std::string name;                  ///< "embed_tokens", "layers.0 ... layers.25", "self_attn.q_proj"
  std::vector<std::uint64_t> shape;  ///< slowest first; empty where it only holds others
  std::string note;                  ///< "norm of the heads of q"; may be empty
};

/// What may be done with the model, and why not.
struct Ability {
  std::string name;    ///< "rotate", "export gguf"
  std::string reason;  ///< empty: it may
};

struct ModelDescription {
  std::string family;
  std::string gguf_name;
  std::uint64_t parameters = 0;
  std::vector<DescribedPart> parts;
  std::vector<std::string> settings;  ///< beside sizes, in words
  std::vector<Ability> abilities;
};

ModelDescription describe_model(const Architecture& architecture);

/// A tree with shapes, then settings and abilities, a line each.
std::string text_of(const ModelDescription& description);

}  // namespace adze
