#include "models/mixers.h"

#include <algorithm>

#include "models/mixers/attention.h"
#include "models/mixers/grassmann.h"

namespace wedge {

std::span<const MixerEntry> mixer_table() {
  static const MixerEntry table[] = {
      {"attention", "TransformerLM", make_mixer<AttentionMixer>, AttentionMixer::validate},
      {"grassmann", "GrassmannLM", make_mixer<GrassmannMixer>, GrassmannMixer::validate},
  };
  return table;
}

namespace {

struct Everything : Mixer::Memory {
  std::vector<Variable> parts;
};

}  // namespace

std::unique_ptr<Mixer::Memory> Mixer::make_memory(std::int64_t, std::int64_t) const {
  return std::make_unique<Everything>();
}

Variable Mixer::extend(const Variable& h, Memory& memory) const {
  std::vector<Variable>& parts = memory_of<Everything>(memory).parts;
  parts.push_back(h);
  parts = {concat(parts, 1)};
  const std::int64_t length = parts.front().size(1);
  return slice((*this)(parts.front()), 1, length - h.size(1), length);
}

const MixerEntry& find_mixer(const std::string& name) {
  const auto table = mixer_table();
  const auto it = std::ranges::find(table, name, &MixerEntry::name);
  std::string names;
  for (const MixerEntry& entry : table) names += (names.empty() ? "" : ", ") + entry.name;
  WEDGE_CHECK(it != table.end(), "model.tensor_lifting_strategy: expected one of {}, got '{}'", names, name);
  return *it;
}

}  // namespace wedge
