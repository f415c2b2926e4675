// Checkpoints of models of text and images (Gemma 3 from 4B on, LLaVA, Mistral Small 3.1), of which the language model
// alone is read, as the checkpoint of text that it is: config.json has its settings in `text_config`, some of them left
// to the configuration class of Transformers; its tensors have a prefix, which goes, and those of the towers are left
// out. Everything after knows the text model alone, and folders that are exported are its own.
//
// What a model of images does with its text otherwise (other positions, attention to what comes later) is no language
// model of ours: such classes are not in the table.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "checkpoint/tensor_source.h"

namespace adze {

/// Whether config.json is that of a class whose language model is read.
bool is_multimodal(const nlohmann::json& config);
/// Those classes, in words.
std::string multimodal_classes();

/// config.json of the language model alone: `text_config`, what it leaves to the whole model or to its configuration
/// class, and the class of the family. Needs is_multimodal(). Throws bad_data, naming `origin`, for a text_config that
/// is missing or of a family that is not known.
nlohmann::json language_config(const nlohmann::json& config, std::string_view origin);

/// The language model's tensors under the names of a checkpoint of text; a source without towers and prefixes is handed
/// back. Throws bad_data where there are towers and nothing else, and for a tensor that is there under two names.
std::shared_ptr<const TensorSource> language_source(std::shared_ptr<const TensorSource> source);

/// What language_source() leaves out, for people: "437 tensors of vision_tower".
std::vector<std::string> left_out_parts(const TensorSource& source);

}  // namespace adze
