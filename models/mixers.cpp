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

const MixerEntry& find_mixer(const std::string& name) {
  const auto table = mixer_table();
  const auto it = std::ranges::find(table, name, &MixerEntry::name);
  std::string names;
  for (const MixerEntry& entry : table) names += (names.empty() ? "" : ", ") + entry.name;
  WEDGE_CHECK(it != table.end(), "model.tensor_lifting_strategy: expected one of {}, got '{}'", names, name);
  return *it;
}

}  // namespace wedge
