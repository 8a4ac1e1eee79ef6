#include "models/module.h"

namespace wedge {

NamedParameters Module::named_parameters() const {
  NamedParameters all = parameters_;
  for (const auto& [prefix, child] : children_)
    for (auto& [name, parameter] : child->named_parameters())
      all.emplace_back(prefix + "." + name, parameter);
  return all;
}

std::int64_t Module::num_parameters() const {
  std::int64_t count = 0;
  for (const auto& [name, parameter] : named_parameters()) count += parameter.value().numel();
  return count;
}

Variable Module::add_parameter(std::string name, Tensor value) {
  return parameters_.emplace_back(std::move(name), parameter(std::move(value))).second;
}

void Module::add_child(std::string name, const Module& child) {
  children_.emplace_back(std::move(name), &child);
}

}  // namespace wedge
