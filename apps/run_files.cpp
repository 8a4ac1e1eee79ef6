#include "apps/run_files.h"

#include <algorithm>
#include <utility>

#include "apps/checkpoint_metadata.h"
#include "models/checkpoint.h"
#include "tensor/check.h"

namespace wedge::app {

namespace fs = std::filesystem;

RunFiles::RunFiles(const RunFolder& folder, const Config& config, const data::Corpus& corpus,
                   const std::optional<fs::path>& state)
    : folder_(folder),
      config_(config),
      corpus_(fingerprint(corpus)),
      metadata_(make_metadata(config, corpus.vocab_size, corpus.vocabulary)),
      metrics_(folder.metrics()),
      state_(state) {
  WEDGE_CHECK(!fs::exists(folder_.results()),
              "{}: the run is finished; another process may have gone on with it", folder_.path.string());
  // Before this one had the lock, another process may have gone on, and written states or taken old ones
  // away.
  if (!state_ || !fs::exists(*state_)) {
    const auto newest = newest_state(folder_);
    WEDGE_CHECK(newest || !state_, "{}: it is gone, and no other state is beside it", state_->string());
    state_ = newest;
  }
}

RunProgress RunFiles::begin(LanguageModel& model, AdamW& optimizer) {
  // What can be refused comes before what empties what an earlier run left. A run that goes on may have been
  // told anew where its corpus lies.
  const RunProgress done = state_ ? go_on(model, optimizer) : RunProgress{};
  write_file(folder_.config(), to_json(config_).dump(2) + "\n");
  folder_.remove_leftovers();
  metrics_.truncate(done.metrics_bytes);
  if (config_.train.tensorboard) tensorboard_.emplace(folder_.path, done.step);
  return done;
}

RunProgress RunFiles::go_on(LanguageModel& model, AdamW& optimizer) {
  RunProgress done = load_state(*state_, config_, corpus_, model, optimizer);
  saved_ = folder_.path / state_->filename();
  const std::vector<fs::path> states = folder_.states();
  const auto found = std::ranges::find(states, saved_);
  if (found != states.end() && found + 1 != states.end()) before_ = *(found + 1);
  have_checkpoint_ = !done.val_losses.empty();
  return done;
}

void RunFiles::log(const StepReport& r) {
  metrics_.append(Json{{"step", r.step},
                       {"epoch", r.epoch},
                       {"loss", r.loss},
                       {"learning_rate", r.learning_rate},
                       {"grad_norm", r.grad_norm},
                       {"tokens_per_second", r.tokens_per_second}}
                      .dump());
  if (tensorboard_)
    tensorboard_->scalars(r.step, {{"loss/train", r.loss},
                                   {"learning_rate", r.learning_rate},
                                   {"grad_norm", r.grad_norm},
                                   {"tokens_per_second", r.tokens_per_second}});
}

void RunFiles::log(const EpochReport& r, std::int64_t last_step) {
  metrics_.append(Json{{"epoch", r.epoch}, {"train_loss", r.train_loss}, {"val_loss", r.val_loss}}.dump());
  if (tensorboard_)
    tensorboard_->scalars(last_step, {{"loss/train_epoch", r.train_loss}, {"loss/validation", r.val_loss}});
}

void RunFiles::log(const Divergence& divergence) {
  metrics_.append(to_json(divergence).dump());
}

void RunFiles::save_checkpoint(const LanguageModel& model, bool best) {
  if (best) save_weights(folder_.best(), model, metadata_);
  save_weights(folder_.last(), model, metadata_);
  have_checkpoint_ = true;
}

std::optional<fs::path> RunFiles::checkpoint() const {
  return have_checkpoint_ ? std::optional(folder_.last()) : std::nullopt;
}

void RunFiles::save_state(RunProgress done, const LanguageModel& model, const AdamW& optimizer) {
  done.metrics_bytes = metrics_.sync();
  const fs::path path = folder_.state(done.step);
  app::save_state(path, config_, corpus_, model, optimizer, done);
  if (path != saved_) before_ = std::exchange(saved_, path);
  keep_two_states();
}

// States of later steps are of a run that was taken up from an earlier one, and would be gone on from by
// mistake.
void RunFiles::keep_two_states() const {
  for (const fs::path& other : folder_.states())
    if (other != saved_ && other != before_) fs::remove(other);
}

void RunFiles::finish(const RunResult& result) {
  keep_two_states();  // killed between its last state and this, a run has three
  write_file(folder_.results(), to_json(result).dump(2) + "\n");
}

}  // namespace wedge::app
