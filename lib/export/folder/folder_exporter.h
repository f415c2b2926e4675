// The exporter of formats that are folders: model.safetensors, or shards with an index, config.json with what the
// format adds, the checkpoint's generation settings, tokenizer and chat template as they are, and a model card. Filled
// beside its name, read back, compared, and renamed: PATH is there whole or not at all.
#pragma once

#include <memory>

#include "export/exporter.h"

namespace adze {

std::unique_ptr<Exporter> make_safetensors_exporter();
std::unique_ptr<Exporter> make_compressed_tensors_exporter();
std::unique_ptr<Exporter> make_w8a8_exporter();
std::unique_ptr<Exporter> make_gptq_exporter();
std::unique_ptr<Exporter> make_awq_exporter();
std::unique_ptr<Exporter> make_mlx_exporter();

}  // namespace adze
