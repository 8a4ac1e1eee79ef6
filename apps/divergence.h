// What a run leaves in its metrics.jsonl when it diverges: the last line, {"diverged_at": STEP, "why": TEXT}.
// A run that is taken up again cuts it off with the steps that it makes anew.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "apps/config.h"
#include "apps/run_dir.h"

namespace wedge::app {

struct Divergence {
  std::int64_t step = 0;
  std::string why;  // "the loss is nan"
};

Json to_json(const Divergence& divergence);
// Nothing where the line is none of these.
std::optional<Divergence> divergence_from(const Json& line);

// What the log of a run ends with. A log that is not there or cannot be understood tells of none.
std::optional<Divergence> divergence_of(const RunFolder& run);

// "diverged at step 7: the loss is nan"
std::string describe(const Divergence& divergence);

}  // namespace wedge::app
