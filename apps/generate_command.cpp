// wedge generate: text from a checkpoint.
#include <chrono>
#include <iostream>

#include "apps/checkpoint_metadata.h"
#include "apps/commands.h"
#include "apps/compose.h"
#include "apps/console.h"
#include "apps/device.h"
#include "apps/format.h"
#include "apps/generator.h"
#include "apps/help.h"
#include "apps/sampler.h"
#include "apps/threads.h"
#include "apps/words.h"
#include "data/read_stream.h"
#include "data/text_codec.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

using Clock = std::chrono::steady_clock;

// One text, or a JSON list of texts.
std::vector<std::string> parse_stops(const std::optional<std::string>& word) {
  if (!word || *word == "null") return {};
  std::vector<std::string> stops = {*word};
  const Json value = parse_json(*word);
  WEDGE_CHECK(!value.is_discarded() || !word->starts_with("[\""),
              "generate: stop: expected a text or a JSON list of texts, got {}", *word);
  if (value.is_array()) {
    stops.clear();
    for (const Json& stop : value) {
      WEDGE_CHECK(stop.is_string(), "generate: stop: expected a text or a JSON list of texts, got {}", *word);
      stops.push_back(stop);
    }
  } else if (value.is_string()) {
    stops = {value};
  }
  for (const std::string& stop : stops)
    WEDGE_CHECK(!stop.empty(), "generate: stop: expected texts that are not empty, got {}", *word);
  return stops;
}

// Standard input to its end, without a last line end.
std::string read_prompt() {
  constexpr std::size_t kMost = 64 << 20;  // far more than a window holds; a stream may have no end
  std::string text = data::read_stream(std::cin, kMost);
  WEDGE_CHECK(text.size() <= kMost, "generate: prompt=-: expected at most {} bytes, got more", kMost);
  if (text.ends_with('\n')) text.pop_back();
  WEDGE_CHECK(!text.empty(), "generate: prompt=-: expected a text on standard input, got nothing");
  return text;
}

// Passes text on until one of the stops comes. What may be the beginning of one is held back.
class StoppingPrinter {
 public:
  explicit StoppingPrinter(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // Whether to go on.
  bool operator()(const std::string& text) {
    held_ += text;
    std::size_t safe = held_.size();
    for (const std::string& stop : stops_) {
      if (const std::size_t at = held_.find(stop); at != std::string::npos) {
        held_.resize(at);
        return false;
      }
      for (std::size_t length = std::min(stop.size() - 1, held_.size()); length > 0; --length)
        if (held_.ends_with(std::string_view(stop).substr(0, length))) {
          safe = std::min(safe, held_.size() - length);
          break;
        }
    }
    print(std::string_view(held_).substr(0, safe));
    finish_output();  // nobody reads on: stop
    held_.erase(0, safe);
    return true;
  }

  void finish() {
    print(held_);
    held_.clear();
    flush_output();
  }

 private:
  std::vector<std::string> stops_;
  std::string held_;
};

}  // namespace

std::string generate_help() {
  return R"(usage: wedge generate checkpoint=FILE_OR_RUN_DIR prompt=TEXT [key=value]...

Prints the prompt and what the model goes on with, token by token as it comes; at the end, on standard
error, how many tokens a second that was, and how long the prompt before them took. The same seed gives the
same text.

  checkpoint=FILE_OR_RUN_DIR   a .safetensors file of wedge train; a run folder means its
                               best.safetensors
  prompt=TEXT                  in words that the checkpoint's vocabulary knows; token ids with spaces
                               between them where it has none (data=tokens); -: standard input
  max_tokens=100               how many tokens to add
  temperature=1                logits are divided by it; 0: always the most likely token
  top_k=null                   draw from the k most likely tokens only
  top_p=null                   draw from the fewest tokens whose probability reaches p only
  seed=42                      of the random numbers
  stop=null                    end before this text would come; several: a JSON list

and these keys of wedge train:
)" + describe_keys(keys_of(find_command("generate"))) +
         R"(
Within the window every token is read once: attention keeps its keys and values, the Grassmann model the
last max(lags) reduced states. Past the checkpoint's data.max_context_len tokens, the last half of them
is read again as the beginning of a text, and so on.

examples:
  wedge generate checkpoint=runs/single/DATE/TIME_grassmann prompt='The river' top_p=0.9
  wedge generate checkpoint=best.safetensors prompt='Anna kept' temperature=0.7 stop='["\n\n"]'
)";
}

int run_generate(const Words& words) {
  const std::string path = words.required("checkpoint", "FILE_OR_RUN_DIR");
  std::string prompt = words.required("prompt", "TEXT");
  if (prompt == "-") prompt = read_prompt();
  const std::int64_t max_tokens = words.integer("max_tokens", 0, 1'000'000'000).value_or(100);
  SamplerOptions options;
  options.temperature = words.number("temperature", 0, 1e6).value_or(1);
  options.top_k = words.integer("top_k", 1);
  options.top_p = words.number("top_p", 0, 1);
  options.seed = words.natural("seed").value_or(42);
  const std::vector<std::string> stops = parse_stops(words.text("stop"));
  const Config run = compose_over({}, words.keys());
  const Device device = resolve_device(run.train.device);
  use_threads(run.train.threads);

  const Checkpoint checkpoint = read_checkpoint(path);
  std::vector<std::int32_t> ids;
  try {
    ids = data::encode_text(prompt, checkpoint.vocabulary, checkpoint.vocab_size);
  } catch (const Error& error) {
    throw Error(fmt::format("generate: prompt: {}", error.what()));
  }
  WEDGE_CHECK(!ids.empty(), "generate: prompt: expected at least one token, got none in '{}'", prompt);
  const auto model = load_model(checkpoint, device);

  data::Detokenizer text_of = data::make_detokenizer(checkpoint.vocabulary);
  for (const std::int32_t id : ids) text_of(id);
  text_of({});  // the prompt is printed as it is
  StoppingPrinter printer(stops);
  print(prompt);
  flush_output();
  Sampler sample(options);
  const Clock::time_point start = Clock::now();
  Generator generator(*model, ids);
  const std::int64_t read = std::ssize(generator.window());  // of a long prompt not all
  const Clock::time_point begin = Clock::now();
  std::int64_t count = 0;
  bool going = true;
  while (going && count < max_tokens) {
    const std::int32_t id = sample(generator.logits());
    ++count;
    going = printer(text_of(id));
    if (going && count < max_tokens) generator.push(id);
  }
  if (going) printer(text_of({}));
  printer.finish();
  print("\n");
  finish_output();
  using Seconds = std::chrono::duration<double>;
  print_notice(fmt::format("{}, {:.0f} a second; before them {} of the prompt in {:.3f} s",
                           counted(count, "token"),
                           static_cast<double>(count) / Seconds(Clock::now() - begin).count(),
                           counted(read, "token"), Seconds(begin - start).count()));
  return 0;
}

}  // namespace wedge::app
