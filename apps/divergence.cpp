#include "apps/divergence.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace wedge::app {

Json to_json(const Divergence& divergence) {
  return {{"diverged_at", divergence.step}, {"why", divergence.why}};
}

std::optional<Divergence> divergence_from(const Json& line) {
  const bool is_one = line.is_object() && line.contains("diverged_at") && line.contains("why") &&
                      line["diverged_at"].is_number_integer() && line["why"].is_string();
  const std::int64_t step = is_one ? line["diverged_at"].get<std::int64_t>() : -1;
  if (step < 0) return {};
  return Divergence{step, line["why"].get<std::string>()};
}

std::optional<Divergence> divergence_of(const RunFolder& run) {
  constexpr std::streamoff kMost = 4096;  // of such a line
  std::error_code error;
  if (!std::filesystem::is_regular_file(run.metrics(), error)) return {};
  std::ifstream file(run.metrics(), std::ios::binary | std::ios::ate);
  const std::streamoff size = file.tellg(), part = std::min(size, kMost);
  if (part <= 0) return {};
  std::string end(static_cast<std::size_t>(part), '\0');
  file.seekg(size - part);
  if (!file.read(end.data(), part)) return {};
  if (end.ends_with('\n')) end.pop_back();
  return divergence_from(parse_json(end.substr(end.rfind('\n') + 1)));
}

std::string describe(const Divergence& divergence) {
  return fmt::format("diverged at step {}: {}", divergence.step, divergence.why);
}

}  // namespace wedge::app
