// Export to ONNX: a folder with model.onnx, its weights in model.onnx_data, genai_config.json, and the checkpoint's own
// configuration, tokenizer and chat template. Two exporters: `onnx` with the operators of onnxruntime, `onnx-qdq` with
// those of the standard alone.
#pragma once

#include <memory>

#include "export/exporter.h"

namespace adze {

std::unique_ptr<Exporter> make_onnx_exporter();
std::unique_ptr<Exporter> make_onnx_qdq_exporter();

}  // namespace adze
