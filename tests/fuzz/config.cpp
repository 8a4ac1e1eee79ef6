#include "apps/config.h"

#include <vector>

#include "apps/compose.h"
#include "apps/help.h"
#include "apps/words.h"
#include "tests/fuzz/fuzz.h"

namespace {

// What is accepted reads back as it was.
void check_round_trip(const wedge::app::Config& config) {
  const wedge::app::Json json = to_json(config);
  wedge::app::Config again;
  update_from_json(
      again, wedge::app::parse_json(json.dump(-1, ' ', false, wedge::app::Json::error_handler_t::replace)),
      "again");
  wedge::fuzz::require(to_json(again).dump() == json.dump(), "a configuration that does not read back");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace wedge;
  const std::string text(reinterpret_cast<const char*>(data), size);
  fuzz::allowed([&] {
    const app::Json json = app::parse_json(text);
    if (json.is_discarded()) return;
    app::Config config;
    update_from_json(config, json, "input");
    validate(config);
    check_round_trip(config);
  });
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin < text.size() && words.size() < 16;) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  constexpr app::Command command = {.name = "input",
                                    .summary = "",
                                    .run = nullptr,
                                    .help = nullptr,
                                    .own_words = "prompt= top_k= top_p=",
                                    .keys = "data train.device"};
  fuzz::allowed([&] { app::Words(command, words).number("top_p", 0, 1); });
  for (const bool multirun : {false, true})
    fuzz::allowed([&] {
      for (const app::Config& config : app::compose(words, multirun)) check_round_trip(config);
    });
  if (!words.empty()) app::describe_key_or_group(words.front());
  return 0;
}
