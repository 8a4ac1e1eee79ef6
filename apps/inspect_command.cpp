// wedge inspect: what a model's mixers do over a text.
#include <algorithm>
#include <utility>
#include <vector>

#include "apps/checkpoint_data.h"
#include "apps/commands.h"
#include "apps/console.h"
#include "apps/display_text.h"
#include "apps/files.h"
#include "apps/gnuplot.h"
#include "apps/help.h"
#include "apps/inspection_report.h"
#include "tensor/check.h"

namespace wedge::app {

namespace fs = std::filesystem;

std::string inspect_help() {
  return R"(usage: wedge inspect checkpoint=FILE_OR_RUN_DIR [data.split=SPLIT] [key=value]...

Writes inspect.json and a page with plots, inspect.html, about what the mixers of a model do over a text, and
prints a table of it.

Grassmann, for each layer and lag: the distribution of the norm of z_t ∧ z_(t-lag) and of the sine of the
angle between the two states, how far the norm is from collapse (1e-6, where its direction means nothing),
the effective rank of the Plücker features and the length of their mean; for each layer the gate α, and
between layers the angles by which the mean directions drift.
Attention, for each layer and head: the entropy of the weights and the mean distance that it looks back.
The plots are drawn by gnuplot (Debian: gnuplot-nox); without it the page is left out.

  checkpoint=FILE_OR_RUN_DIR     a .safetensors file of wedge train; a run folder means its
                                 best.safetensors
  data.split=SPLIT               train, validation or test (default: validation)
  max_tokens=8192                of the split's beginning, in whole blocks
  out=FOLDER                     (default: the checkpoint's folder)

data=PRESET and these keys replace what the checkpoint says; shown are the defaults of wedge train:
)" + describe_keys(keys_of(find_command("inspect"))) +
         R"(
examples:
  wedge inspect checkpoint=runs/single/DATE/TIME_grassmann
  wedge inspect checkpoint=best.safetensors data=text data.path=my_texts out=look
)";
}

int run_inspect(const Words& words) {
  const std::int64_t max_tokens = words.integer("max_tokens", 1).value_or(8192);
  const CheckpointData loaded = load_checkpoint_data(words);
  check_finite(*loaded.model, loaded.checkpoint.file.path());
  const fs::path out = words.text("out").value_or(fs::absolute(loaded.checkpoint.file.path()).parent_path());
  const std::int64_t L = loaded.blocks.context_len();
  const std::int64_t count = std::clamp<std::int64_t>(max_tokens / L, 1, loaded.blocks.count());
  std::vector<std::vector<std::int32_t>> blocks;
  for (std::int64_t b = 0; b < count; ++b) {
    const auto input = loaded.blocks.input(b);
    blocks.emplace_back(input.begin(), input.end());
  }
  loaded.model->set_training(false);
  const Inspection inspection = inspect(*loaded.model, blocks);

  const std::string name = valid_utf8(loaded.checkpoint.file.path().string());  // as JSON must be
  Json json = {{"checkpoint", name},
               {"model", loaded.config.model.tensor_lifting_strategy},
               {"split", data::name_of(loaded.split)}};
  json.update(to_json(inspection));
  // All is drawn before the first file is written.
  std::string html;
  try {
    HtmlPage page(fmt::format("wedge: inside {}", name));
    describe(inspection, page);
    html = page.finish();
  } catch (const NoGnuplot& error) {
    print_notice(fmt::format("inspect.html is left out: {}", error.what()));
  }
  std::error_code error;
  fs::create_directories(out, error);
  WEDGE_CHECK(!error, "inspect: cannot make the folder {}: {}", out.string(), error.message());
  std::vector<std::pair<fs::path, std::string>> files = {{out / "inspect.json", json.dump(2) + "\n"}};
  if (!html.empty()) files.emplace_back(out / "inspect.html", html);
  write_files(files);
  print(summary(inspection));
  for (const auto& [path, text] : files) print(path.string() + "\n");
  return 0;
}

}  // namespace wedge::app
