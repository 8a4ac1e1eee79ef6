#include "apps/divergence.h"

#include <fmt/format.h>

#include "apps/files.h"
#include "tensor/check.h"

namespace wedge::app {

Json to_json(const Divergence& divergence) {
  return {{"diverged_at", divergence.step}, {"why", divergence.why}};
}

std::optional<Divergence> divergence_from(const Json& line) {
  const bool is_one = line.is_object() && line.contains("diverged_at") && line.contains("why") &&
                      line["diverged_at"].is_number_integer() && line["why"].is_string();
  if (!is_one) return {};
  return Divergence{line["diverged_at"].get<std::int64_t>(), line["why"].get<std::string>()};
}

std::optional<Divergence> divergence_of(const RunFolder& run) {
  try {
    std::string text = read_file(run.metrics());
    if (!text.ends_with('\n')) return {};  // broken off
    text.pop_back();
    return divergence_from(parse_json(text.substr(text.rfind('\n') + 1)));
  } catch (const Error&) {
    return {};
  }
}

std::string describe(const Divergence& divergence) {
  return fmt::format("diverged at step {}: {}", divergence.step, divergence.why);
}

}  // namespace wedge::app
