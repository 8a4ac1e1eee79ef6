#include "apps/learning_curve.h"
#include "apps/table.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace wedge;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  // A results.json up to an empty line; the rest is metrics.jsonl.
  const std::size_t split = std::min(input.find("\n\n"), input.size());
  const auto results = fuzz::as_file(input.substr(0, split), "results.json");
  const auto metrics =
      fuzz::as_file(split < input.size() ? input.substr(split + 2) : std::string_view(), "metrics.jsonl");
  fuzz::allowed([&] {
    const app::RunResult result = app::read_result(results);
    app::comparison_table({{"a", result}, {"b", result}});
  });
  fuzz::allowed([&] {
    const app::LearningCurve curve = app::read_curve({metrics.parent_path()}, "a");
    app::picture_of({curve, curve});
    app::best_of({curve});
    app::throughput_of({curve});
  });
  return 0;
}
