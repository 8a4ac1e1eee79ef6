// Weights of a model to and from .safetensors, under the names that the PyTorch reference gives them.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "models/module.h"
#include "tensor/safetensors.h"

namespace wedge {

// Writes every parameter and the metadata, atomically. A tied head is not written twice.
void save_weights(const std::filesystem::path& path, const Module& model,
                  const std::map<std::string, std::string>& metadata);

// Reads every parameter; other floating dtypes are converted (float64, bfloat16, float16). Throws
// wedge::Error naming the file and the parameter when one is missing, has another shape, is not floating, or
// is unknown; the model is then unchanged. With tied weights a `lm_head.weight` in the file must equal the
// embedding. The buffers attention.causal_mask, .idx_i and .idx_j of PyTorch's files are ignored.
void load_weights(const SafetensorsFile& file, Module& model);

// One tensor for each parameter, in their order, from the file's tensors PREFIX + name, and converted to its
// dtype. Throws wedge::Error naming the file and the tensor when one is missing, has another shape, or is not
// floating.
std::vector<Tensor> read_like_parameters(const SafetensorsFile& file, const NamedParameters& parameters,
                                         const std::string& prefix = "");

}  // namespace wedge
