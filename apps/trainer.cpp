#include "apps/trainer.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <limits>

#include "apps/batch_feed.h"
#include "apps/checkpoint_metadata.h"
#include "apps/device.h"
#include "apps/evaluate.h"
#include "apps/files.h"
#include "apps/interrupt.h"
#include "apps/run_state.h"
#include "apps/table.h"
#include "apps/tensorboard.h"
#include "apps/threads.h"
#include "apps/train_steps.h"
#include "models/checkpoint.h"
#include "models/language_model.h"
#include "models/optimizer.h"
#include "models/schedule.h"
#include "tensor/cuda/gpu.h"

namespace wedge::app {

namespace {

using data::Batches;
using data::Blocks;

// A run that goes on takes its weights from its state, and needs train.init_from no more.
std::unique_ptr<LanguageModel> make_model(const Config& config, const data::Corpus& corpus, bool goes_on) {
  auto model = make_language_model(complete_model(config, corpus.vocab_size), config.seed, DType::f32,
                                   resolve_device(config.train.device));
  if (config.train.init_from && !goes_on) {
    const RunFolder folder{*config.train.init_from};
    load_weights(std::filesystem::is_directory(folder.path) ? folder.best() : folder.path, *model);
  }
  return model;
}

// One run, from the first step to the last.
class Run {
 public:
  Run(const Config& config, const data::Corpus& corpus, const RunFolder* folder, ProgressSink& progress,
      const std::optional<std::filesystem::path>& state)
      : config_(config),
        corpus_(fingerprint(corpus)),
        train_(config.train),
        folder_(folder),
        sink_(progress),
        state_(state),
        train_blocks_(corpus.train, config.data.max_context_len, "train"),
        validation_blocks_(corpus.validation, config.data.max_context_len, "validation"),
        batches_(train_blocks_, train_.batch_size, train_.shuffle, config.seed),
        model_(make_model(config, corpus, state.has_value())),
        optimizer_(model_->named_parameters(),
                   {.weight_decay = train_.weight_decay, .grad_clip = train_.grad_clip.value_or(0)}),
        metadata_(make_metadata(config, corpus.vocab_size, corpus.vocabulary)),
        steps_(config, train_blocks_, batches_, *model_, optimizer_),
        schedule_steps_(train_.num_epochs * steps_.per_epoch()),
        total_steps_(std::min(schedule_steps_, train_.max_steps.value_or(schedule_steps_))) {
    result_.strategy = config.model.tensor_lifting_strategy;
    result_.num_params = model_->num_parameters();
    result_.config = to_json(config);
    result_.floor = corpus.floor(config.data.max_context_len);
  }

  RunResult run() {
    if (folder_) {
      metrics_.emplace(folder_->metrics());  // holds the folder's lock
      WEDGE_CHECK(!std::filesystem::exists(folder_->results()),
                  "{}: another process has gone on with this run, and finished it", folder_->path.string());
      // Before it had the lock, another process may have gone on, and written states or taken old ones away.
      if (!state_ || !std::filesystem::exists(*state_)) {
        const auto newest = newest_state(*folder_);
        WEDGE_CHECK(newest || !state_, "{}: it is gone, and no other state is beside it", state_->string());
        state_ = newest;
      }
      // The write that can be refused comes before those that empty what an earlier run left. A run that goes
      // on may have been told anew where its corpus lies.
      if (state_) go_on();
      write_file(folder_->config(), result_.config.dump(2) + "\n");
      folder_->remove_leftovers();
      metrics_->truncate(done_.metrics_bytes);
      if (train_.tensorboard) tensorboard_.emplace(folder_->path, done_.step);
    }
    sink_.start({fmt::format("{}, {:.2f} M parameters{}", model_name(result_.strategy),
                             static_cast<double>(result_.num_params) / 1e6, on_device()),
                 train_.num_epochs, total_steps_, steps_.per_epoch(), done_.step});
    try {
      run_epochs();
    } catch (const DivergenceError&) {
      throw;
    } catch (const Interrupted&) {
      throw;
    } catch (const Error& error) {
      throw UnfinishedError(error.what());
    }
    return std::move(result_);
  }

 private:
  void run_epochs() {
    while (done_.step < total_steps_ || done_.batches_done > 0) run_epoch();
    result_.train_losses = done_.train_losses;
    result_.val_losses = done_.val_losses;
    result_.best_val_loss = best_val_loss();
    result_.tokens_per_second = static_cast<double>(done_.tokens) / done_.seconds;
    if (folder_) {
      keep_two_states();  // killed between its last state and this, a run has three
      write_file(folder_->results(), to_json(result_).dump(2) + "\n");
    }
  }

  void go_on() {
    done_ = load_state(*state_, config_, corpus_, *model_, optimizer_);
    saved_ = folder_->path / state_->filename();
    const std::vector<std::filesystem::path> states = folder_->states();
    const auto older = std::ranges::find(states, saved_) + 1;
    if (older != states.end()) before_ = *older;
    have_checkpoint_ = !done_.val_losses.empty();
  }

  std::int64_t epoch() const { return static_cast<std::int64_t>(done_.train_losses.size()) + 1; }

  double best_val_loss() const {
    double best = std::numeric_limits<double>::infinity();
    for (const double loss : done_.val_losses) best = std::min(best, loss);
    return best;
  }

  void begin_epoch() {
    batches_.start_epoch(epoch() - 1);
    const std::int64_t first_step = done_.step - done_.batches_done / train_.accumulate;
    std::vector<double> learning_rates;
    for (std::int64_t i = 0; i < steps_.per_epoch(); ++i)
      learning_rates.push_back(
          learning_rate_at(first_step + i, schedule_steps_, train_.learning_rate, train_.warmup_steps));
    steps_.start_epoch(done_.step, done_.batches_done, learning_rates);
  }

  // From where the epoch under way stands to its end.
  void run_epoch() {
    if (done_.batches_done < batches_.count()) begin_epoch();
    model_->set_training(true);
    while (done_.batches_done < batches_.count() && done_.step < total_steps_) {
      const std::int64_t micro_steps = steps_.micro_steps(done_.batches_done);
      steps_.run(done_.step, done_.batches_done);
      done_.batches_done += micro_steps;
      ++done_.step;
      if (steps_.is_due()) read_steps();
      if (interrupt_.signal() != 0) {
        save();
        stop();
      }
      const bool more = done_.batches_done < batches_.count() && done_.step < total_steps_;
      if (more && train_.checkpoint_every && done_.step % *train_.checkpoint_every == 0) save();
    }
    read_steps();
    finish_epoch();
    if (interrupt_.signal() != 0 && done_.step < total_steps_) stop();
  }

  // Waits for the steps that were given to the device, and tells of them.
  void read_steps() {
    double seconds = 0;
    const std::vector<StepResult> results = steps_.read(seconds);
    std::int64_t tokens = 0;
    for (const StepResult& r : results) tokens += r.tokens;
    done_.tokens += tokens;
    done_.seconds += seconds;
    for (const StepResult& r : results) {
      for (const double loss : r.losses) check_finite(loss, "loss", r.step);
      check_finite(r.grad_norm, "gradient norm", r.step);
      done_.sum_of_batches += r.sum_of_losses();
      report({r.step, epoch(), r.mean_loss(), r.learning_rate, r.grad_norm,
              static_cast<double>(tokens) / seconds});
    }
  }

  // Writes the state and keeps the one before it.
  void save() {
    read_steps();
    if (!folder_) return;
    done_.metrics_bytes = metrics_->sync();
    const std::filesystem::path path = folder_->state(done_.step);
    save_state(path, config_, corpus_, *model_, optimizer_, done_);
    if (path != saved_) before_ = std::exchange(saved_, path);
    keep_two_states();
  }

  // States of later steps are of a run that was taken up from an earlier one, and would be gone on from by
  // mistake.
  void keep_two_states() const {
    for (const std::filesystem::path& other : folder_->states())
      if (other != saved_ && other != before_) std::filesystem::remove(other);
  }

  [[noreturn]] void stop() const {
    throw Interrupted(interrupt_.signal(), fmt::format("stopped by {} after step {} of {}",
                                                       interrupt_.signal() == SIGINT ? "SIGINT" : "SIGTERM",
                                                       done_.step, total_steps_));
  }

  // " on NVIDIA H200, ..." where a GPU trains.
  std::string on_device() const {
    if constexpr (kWithCuda)
      if (model_->device() == Device::cuda) return " on " + cu::describe_device();
    return {};
  }

  void report(const StepReport& r) {
    if (metrics_)
      metrics_->append(Json{{"step", r.step},
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
    sink_.step(r);
  }

  void finish_epoch() {
    const std::int64_t finished = epoch();
    const double train_loss = done_.sum_of_batches / static_cast<double>(done_.batches_done);
    const double val_loss = evaluate(*model_, validation_blocks_, train_.batch_size).mean_over_batches;
    check_finite(val_loss, "validation loss after it", done_.step - 1);
    const bool best = val_loss < best_val_loss();
    done_.train_losses.push_back(train_loss);
    done_.val_losses.push_back(val_loss);
    done_.batches_done = 0;
    done_.sum_of_batches = 0;
    if (folder_) {
      if (best) save_weights(folder_->best(), *model_, metadata_);
      save_weights(folder_->last(), *model_, metadata_);
      have_checkpoint_ = true;
      metrics_->append(Json{{"epoch", finished}, {"train_loss", train_loss}, {"val_loss", val_loss}}.dump());
      if (tensorboard_)
        tensorboard_->scalars(done_.step - 1,
                              {{"loss/train_epoch", train_loss}, {"loss/validation", val_loss}});
      save();
    }
    sink_.epoch({finished, train_loss, val_loss, best});
  }

  void check_finite(double value, const char* what, std::int64_t step) const {
    if (std::isfinite(value)) return;
    std::string message = fmt::format("{}: stopped at step {}: the {} is {}", result_.strategy, step, what,
                                      std::isnan(value) ? "nan" : "infinite");
    if (have_checkpoint_)
      message += fmt::format("; the last good checkpoint is {}", folder_->last().string());
    throw DivergenceError(message);
  }

  const Config& config_;
  std::uint32_t corpus_;
  const TrainConfig& train_;
  const RunFolder* folder_;
  ProgressSink& sink_;
  std::optional<std::filesystem::path> state_;  // to go on from
  Blocks train_blocks_, validation_blocks_;
  Batches batches_;
  std::unique_ptr<LanguageModel> model_;
  AdamW optimizer_;
  std::map<std::string, std::string> metadata_;
  TrainSteps steps_;
  std::int64_t schedule_steps_;  // N of the schedule
  std::int64_t total_steps_;     // that are done
  std::optional<LineLog> metrics_;
  std::optional<TensorboardLog> tensorboard_;
  RunResult result_;
  RunProgress done_;
  std::filesystem::path saved_, before_;  // the newest states
  bool have_checkpoint_ = false;
  InterruptGuard interrupt_;
};

}  // namespace

void check_trainable(const Config& config, const data::Corpus& corpus, bool goes_on) {
  const Blocks train(corpus.train, config.data.max_context_len, "train");
  const Blocks validation(corpus.validation, config.data.max_context_len, "validation");
  const auto model = make_model(config, corpus, goes_on);
  if (model->device() == Device::cpu) return;
  // What only this GPU's kernels refuse (wide heads, many lags) shows in a first forward pass.
  const NoGradGuard no_grad;
  const Batches batches(train, 1, false, 0);
  const auto [inputs, targets] = BatchFeed(train, batches, model->device()).at(0);
  model->loss(inputs, targets).item();
}

RunResult train(const Config& config, const data::Corpus& corpus, const RunFolder* folder,
                ProgressSink& progress, const std::optional<std::filesystem::path>& state) {
  use_threads(config.train.threads);
  const Bf16ProductsGuard reduced(config.train.amp);
  return Run(config, corpus, folder, progress, state).run();
}

}  // namespace wedge::app
