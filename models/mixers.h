// Mixers: how a block moves information between positions. One file each in models/mixers/, one line each in
// the table.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>

#include "autograd/ops.h"
#include "models/init.h"
#include "models/layers.h"
#include "models/model_config.h"
#include "models/module.h"

namespace wedge {

// h [B, L, D] -> [B, L, D]; the value at position t may depend on positions <= t only.
class Mixer : public Module {
 public:
  // What the positions to come need of those that were read.
  class Memory {
   public:
    virtual ~Memory() = default;
  };

  virtual Variable operator()(const Variable& h) const = 0;

  // An empty memory for sequences of at most `capacity` positions.
  virtual std::unique_ptr<Memory> make_memory(std::int64_t batch, std::int64_t capacity) const;
  // Reads on: h [B, n, D] holds the n positions that follow those in `memory`, n = 1 unless it is empty.
  // Returns what operator() over all positions so far has in its last n rows, and remembers. No gradients
  // flow. By default remembers every h and runs operator() over all of them; override both to keep less.
  virtual Variable extend(const Variable& h, Memory& memory) const;

  // What goes on inside at this input, by name, for those who study it; each mixer says what it has. No
  // gradients.
  using Trace = std::map<std::string, Tensor>;
  virtual Trace trace(const Variable& /*h*/) const { return {}; }

  // Whether the result already contains h, so that a post-norm block adds no residual of its own.
  virtual bool carries_residual() const { return false; }
  // dropout(norm(operator()(h))), for a mixer that carries its residual and can do it in one pass.
  virtual Variable normalized(const Variable& h, const LayerNorm& norm, const Dropout& dropout) const {
    return norm((*this)(h), dropout);
  }

 protected:
  // A memory as the kind that this mixer makes; throws wedge::Error when it is another mixer's.
  template <class Kind>
  static Kind& memory_of(Memory& memory) {
    auto* const mine = dynamic_cast<Kind*>(&memory);
    WEDGE_CHECK(mine != nullptr, "mixer: expected a memory of its own, got another mixer's");
    return *mine;
  }
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
