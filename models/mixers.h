// Mixers: how a block moves information between positions. One file each in models/mixers/, one line each in
// the table.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "autograd/ops.h"
#include "models/init.h"
#include "models/model_config.h"
#include "models/module.h"

namespace wedge {

// h [B, L, D] -> [B, L, D]; the value at position t may depend on positions <= t only.
class Mixer : public Module {
 public:
  virtual Variable operator()(const Variable& h) const = 0;
  // Whether the result already contains h, so that a post-norm block adds no residual of its own.
  virtual bool carries_residual() const { return false; }
};

struct MixerEntry {
  std::string name;        // model.tensor_lifting_strategy
  std::string model_name;  // what tables call a language model with it
  std::unique_ptr<Mixer> (*make)(const ModelConfig& config, std::int64_t layer, Init& init);
  // Throws wedge::Error where the configuration does not suit this mixer; may be null.
  void (*validate)(const ModelConfig& config);
};

// What the table's `make` is for a mixer with the usual constructor.
template <class M>
std::unique_ptr<Mixer> make_mixer(const ModelConfig& config, std::int64_t layer, Init& init) {
  return std::make_unique<M>(config, layer, init);
}

// All mixers, in the order in which they are listed to users.
std::span<const MixerEntry> mixer_table();
// The entry of that name; throws wedge::Error, listing the names, when there is none.
const MixerEntry& find_mixer(const std::string& name);

}  // namespace wedge
