// A named tree of parameters.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "autograd/variable.h"

namespace wedge {

// Parameters under the names that checkpoints use, in order of registration.
using NamedParameters = std::vector<std::pair<std::string, Variable>>;

// A part of a model. A concrete module registers its parameters and children in its constructor; the names of
// a child's parameters get the child's name and a dot in front.
class Module {
 public:
  virtual ~Module() = default;
  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  NamedParameters named_parameters() const;
  // Number of elements of all parameters.
  std::int64_t num_parameters() const;

 protected:
  Variable add_parameter(std::string name, Tensor value);
  void add_child(std::string name, const Module& child);

 private:
  NamedParameters parameters_;
  std::vector<std::pair<std::string, const Module*>> children_;
};

}  // namespace wedge
