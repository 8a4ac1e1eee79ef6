#include "models/checkpoint.h"

#include <algorithm>
#include <cstring>

namespace wedge {
namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "token_embedding.weight";

bool is_torch_buffer(const std::string& name) {
  return name.ends_with("attention.causal_mask") || name.ends_with("attention.idx_i") ||
         name.ends_with("attention.idx_j");
}

}  // namespace

void save_weights(const std::filesystem::path& path, const Module& model,
                  const std::map<std::string, std::string>& metadata) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, p] : model.named_parameters())
    tensors.emplace_back(name, p.value().to(Device::cpu));
  write_safetensors(path, tensors, metadata);
}

void load_weights(const SafetensorsFile& file, Module& model) {
  const std::string path = file.path().string();
  const NamedParameters parameters = model.named_parameters();
  const auto has = [&](const std::string& name) {
    return std::ranges::any_of(parameters, [&](const auto& p) { return p.first == name; });
  };
  for (const auto& [name, entry] : file.entries()) {
    if (is_torch_buffer(name) || has(name)) continue;
    WEDGE_CHECK(name == kHead && file.contains(kEmbedding), "{}: this model has no parameter {}", path, name);
    const Tensor head = file.tensor(name), table = file.tensor(kEmbedding);
    WEDGE_CHECK(head.shape() == table.shape() && head.dtype() == table.dtype() &&
                    std::memcmp(head.raw(), table.raw(),
                                static_cast<std::size_t>(head.numel()) * size_of(head.dtype())) == 0,
                "{}: {} must equal {} when weights are tied", path, kHead, kEmbedding);
  }
  // Everything is read and checked before the first parameter changes.
  const std::vector<Tensor> values = read_like_parameters(file, parameters);
  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].second.set_value(values[i]);
}

std::vector<Tensor> read_like_parameters(const SafetensorsFile& file, const NamedParameters& parameters,
                                         const std::string& prefix) {
  const std::string path = file.path().string();
  std::vector<Tensor> values;
  for (const auto& [parameter, p] : parameters) {
    const std::string name = prefix + parameter;
    WEDGE_CHECK(file.contains(name), "{}: parameter {} is missing", path, name);
    const Tensor value = file.tensor(name);
    WEDGE_CHECK(value.shape() == p.shape(), "{}: {} must be {}, got {}", path, name, to_string(p.shape()),
                to_string(value.shape()));
    WEDGE_CHECK(is_floating(value.dtype()), "{}: {} must be of a floating dtype, got {}", path, name,
                name_of(value.dtype()));
    values.push_back(value.dtype() == p.dtype() ? value : value.to(p.dtype()));
  }
  return values;
}

}  // namespace wedge
