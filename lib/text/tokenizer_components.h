// The components of a tokenizer.json that the two kinds of BPE have their own forms of, read together.
#pragma once

#include "text/components.h"
#include "text/decoder.h"
#include "text/json_fields.h"
#include "text/normalizer.h"
#include "text/vocabulary.h"

namespace adze {

struct Components {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  Decoder decoder;  ///< of characters only
};

/// `fields`: the whole file. Throws bad_data naming a component that is missing or not supported for this kind.
Components parse_components(const JsonFields& fields, BpeAlphabet kind);

/// What CharacterRules can state of these components: Prepend and Replace in either order, and Metaspace.
CharacterRules character_rules(const Components& components);

}  // namespace adze
