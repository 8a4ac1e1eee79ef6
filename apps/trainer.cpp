#include "apps/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "apps/batch_feed.h"
#include "apps/checkpoint_metadata.h"
#include "apps/device.h"
#include "apps/evaluate.h"
#include "apps/interrupt.h"
#include "apps/run_files.h"
#include "apps/threads.h"
#include "apps/train_steps.h"
#include "kernels/cpu/amx_tile.h"
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
  auto model = std::make_unique<LanguageModel>(complete_model(config, corpus.vocab_size), config.seed,
                                               DType::f32, resolve_device(config.train.device));
  if (config.train.init_from && !goes_on) {
    const SafetensorsFile file = open_checkpoint(*config.train.init_from);
    load_weights(file, *model);
    check_finite(*model, file.path());
  }
  return model;
}

// One run, from the first step to the last.
class Run {
 public:
  Run(const Config& config, const data::Corpus& corpus, ProgressSink& progress, bool goes_on)
      : train_(config.train),
        sink_(progress),
        train_blocks_(corpus.train, config.data.max_context_len, "train"),
        validation_blocks_(corpus.validation, config.data.max_context_len, "validation"),
        batches_(train_blocks_, train_.batch_size, train_.shuffle, config.seed),
        model_(make_model(config, corpus, goes_on)),
        optimizer_(model_->named_parameters(),
                   {.weight_decay = train_.weight_decay, .grad_clip = train_.grad_clip.value_or(0)}),
        steps_(config, train_blocks_, batches_, *model_, optimizer_),
        schedule_steps_(train_.num_epochs * steps_.per_epoch()),
        total_steps_(std::min(schedule_steps_, train_.max_steps.value_or(schedule_steps_))) {
    result_.strategy = config.model.tensor_lifting_strategy;
    result_.num_params = model_->num_parameters();
    result_.config = to_json(config);
    result_.floor = corpus.floor(config.data.max_context_len);
  }

  // With `files`, from where they say that the run stands.
  RunResult run(RunFiles* files) {
    files_ = files;
    if (files_) {
      result_.corpus = files_->corpus();
      done_ = files_->begin(*model_, optimizer_);
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
    if (files_) files_->finish(result_);
  }

  std::int64_t epoch() const { return static_cast<std::int64_t>(done_.train_losses.size()) + 1; }

  double best_val_loss() const {
    double best = std::numeric_limits<double>::infinity();
    for (const double loss : done_.val_losses) best = std::min(best, loss);
    return best;
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
      stop_if_asked();
      const bool more = done_.batches_done < batches_.count() && done_.step < total_steps_;
      if (more && train_.checkpoint_every && done_.step % *train_.checkpoint_every == 0) save_state();
    }
    read_steps();
    finish_epoch();
    if (done_.step < total_steps_) stop_if_asked();
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

  void finish_epoch() {
    EpochReport report{.epoch = epoch(),
                       .train_loss = done_.sum_of_batches / static_cast<double>(done_.batches_done)};
    // A validation can be longer than a batch system waits; a run that goes on begins it anew. Its loss is the
    // mean over batches, as the founding experiment has it; that of `wedge eval` is the mean over tokens.
    report.val_loss = evaluate(*model_, validation_blocks_, train_.batch_size, [this] {
                        stop_if_asked();
                      }).mean_over_batches;
    check_finite(report.val_loss, "validation loss after it", done_.step - 1);
    report.best = report.val_loss < best_val_loss();
    done_.train_losses.push_back(report.train_loss);
    done_.val_losses.push_back(report.val_loss);
    done_.batches_done = 0;
    done_.sum_of_batches = 0;
    if (files_) {
      files_->save_checkpoint(*model_, report.best);
      files_->log(report, done_.step - 1);
      save_state();
    }
    sink_.epoch(report);
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
      const StepReport report{r.step,          epoch(),     r.mean_loss(),
                              r.learning_rate, r.grad_norm, static_cast<double>(tokens) / seconds};
      if (files_) files_->log(report);
      sink_.step(report);
    }
  }

  void save_state() {
    read_steps();
    if (files_) files_->save_state(done_, *model_, optimizer_);
  }

  void stop_if_asked() {
    if (interrupt_.signal() == 0) return;
    save_state();
    throw Interrupted(interrupt_.signal(), fmt::format("stopped by {} after step {} of {}", interrupt_.name(),
                                                       done_.step, total_steps_));
  }

  void check_finite(double value, const char* what, std::int64_t step) const {
    if (std::isfinite(value)) return;
    const std::string why = fmt::format("the {} is {}", what, std::isnan(value) ? "nan" : "infinite");
    // Runs of one strategy are told apart by their folders.
    std::string message = fmt::format("{}: stopped at step {}: {}",
                                      files_ ? files_->path().string() : result_.strategy, step, why);
    if (const auto last = files_ ? files_->checkpoint() : std::nullopt)
      message += fmt::format("; the last good checkpoint is {}", last->string());
    try {
      if (files_) files_->log(Divergence{step, why});
    } catch (const Error&) {  // a full disk: the message says it all the same
    }
    throw DivergenceError(message);
  }

  // " on NVIDIA H200, ..." where a GPU trains.
  std::string on_device() const {
    if constexpr (kWithCuda)
      if (model_->device() == Device::cuda) return " on " + cu::describe_device();
    return {};
  }

  const TrainConfig& train_;
  ProgressSink& sink_;
  Blocks train_blocks_, validation_blocks_;
  Batches batches_;
  std::unique_ptr<LanguageModel> model_;
  AdamW optimizer_;
  TrainSteps steps_;
  std::int64_t schedule_steps_;  // N of the schedule
  std::int64_t total_steps_;     // that are done
  RunFiles* files_ = nullptr;
  RunProgress done_;
  RunResult result_;
  InterruptGuard interrupt_;
};

}  // namespace

void check_trainable(const Config& config, const data::Corpus& corpus, bool goes_on) {
  const Blocks train(corpus.train, config.data.max_context_len, "train");
  const Blocks validation(corpus.validation, config.data.max_context_len, "validation");
  const auto model = make_model(config, corpus, goes_on);
  if (model->device() == Device::cpu) {
    WEDGE_CHECK(!config.train.amp_on_cpu || cpu::has_amx(),
                "train.amp_on_cpu: expected a processor with Intel's AMX, or false, got true");
    return;
  }
  // What only this GPU's kernels refuse (wide heads, many lags) shows in a first forward pass.
  const NoGradGuard no_grad;
  const Batches batches(train, 1, false, 0);
  const auto [inputs, targets] = BatchFeed(train, batches, model->device()).at(0);
  model->loss(inputs, targets).item();
}

RunResult train(const Config& config, const data::Corpus& corpus, const RunFolder* folder,
                ProgressSink& progress, const std::optional<std::filesystem::path>& state) {
  use_threads(config.train.threads);
  const Bf16ProductsGuard reduced(config.train.amp, config.train.amp_on_cpu);
  Run run(config, corpus, progress, state.has_value());
  std::optional<RunFiles> files;
  if (folder) files.emplace(*folder, config, corpus, state);
  return run.run(files ? &*files : nullptr);
}

}  // namespace wedge::app
