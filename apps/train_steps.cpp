#include "apps/train_steps.h"

#include <algorithm>

namespace wedge::app {

namespace {

// A step's losses and norm are read back when so many steps are done, or after so long: on a GPU a step waits
// for nothing, and the host runs ahead of it. On the CPU there is nothing to gain.
constexpr std::int64_t kUnreadSteps = 32;
constexpr double kUnreadSeconds = 1;

}  // namespace

double StepResult::sum_of_losses() const {
  double sum = 0;
  for (const double loss : losses) sum += loss;
  return sum;
}

double StepResult::mean_loss() const {
  double mean = 0;
  for (std::size_t i = 0; i < losses.size(); ++i) mean += weights[i] * losses[i];
  return mean;
}

TrainSteps::TrainSteps(const Config& config, const data::Blocks& blocks, const data::Batches& batches,
                       LanguageModel& model, AdamW& optimizer)
    : blocks_(blocks),
      batches_(batches),
      model_(model),
      optimizer_(optimizer),
      batch_size_(config.train.batch_size),
      accumulate_(std::min(config.train.accumulate, batches.count())),
      per_epoch_((batches.count() - 1) / accumulate_ + 1),
      unread_limit_(model.device() == Device::cpu ? 1 : kUnreadSteps),
      feed_(blocks, batches, model.device()),
      clock_(config.seed, per_epoch_, accumulate_, unread_limit_, DType::f32, model.device()),
      use_graphs_(config.train.graph && model.device() == Device::cuda) {
  model_.use_dropout_counter(clock_.dropout_counter());
  // All that comes: validation may use the graphs' memory between two steps, and would else need its own.
  if (use_graphs_) set_apart_.emplace(pool_);
}

std::int64_t TrainSteps::micro_steps(std::int64_t first) const {
  return std::min(accumulate_, batches_.count() - first);
}

void TrainSteps::start_epoch(std::int64_t step, std::int64_t batches_done,
                             std::span<const double> learning_rates) {
  learning_rates_.assign(learning_rates.begin(), learning_rates.end());
  feed_.start_epoch();
  clock_.set(step, batches_done / accumulate_, batches_done * batch_size_, learning_rates_);
}

StepResult TrainSteps::describe(std::int64_t step, std::int64_t first) const {
  const auto tokens_before = [&](std::int64_t batch) {
    return std::min(batch * batch_size_, blocks_.count()) * blocks_.context_len();
  };
  const std::int64_t end = first + micro_steps(first);
  StepResult result{step,
                    tokens_before(end) - tokens_before(first),
                    learning_rates_[static_cast<std::size_t>(first / accumulate_)],
                    {},
                    {}};
  for (std::int64_t batch = first; batch < end; ++batch)
    result.weights.push_back(static_cast<double>(tokens_before(batch + 1) - tokens_before(batch)) /
                             static_cast<double>(result.tokens));
  return result;
}

// What changes from step to step comes from the clock. The first step of a shape runs as it is and leaves its
// memory to the pool, the second is captured.
void TrainSteps::run(std::int64_t step, std::int64_t first) {
  if (unread_.empty()) unread_since_ = Clock::now();
  unread_.push_back(describe(step, first));
  const std::vector<double>& weights = unread_.back().weights;
  const auto count = static_cast<std::int64_t>(weights.size());
  // With the number of batches and the size of the last, every batch's size and weight is given.
  Graphs& graphs = graphs_[{count, std::ssize(batches_.blocks_of(first + count - 1))}];
  const bool replay = use_graphs_ && std::exchange(graphs.ran, true);
  for (std::int64_t micro = 0; micro < count; ++micro) {
    const bool last = micro + 1 == count;
    const auto body = [&] { run_micro_step(first + micro, weights[static_cast<std::size_t>(micro)], last); };
    if (!replay) {
      body();
      continue;
    }
    if constexpr (kWithCuda) {
      cu::Graph& graph = last ? graphs.last : micro == 0 ? graphs.first : graphs.middle;
      if (!graph.defined()) graph = cu::Graph::capture(body);
      graph.replay();
    }
  }
}

void TrainSteps::run_micro_step(std::int64_t batch, double weight, bool last) {
  const auto [inputs, targets] = feed_.at(batch, clock_.next_block());
  const Variable loss = model_.loss(inputs, targets);
  if (weight == 1)
    loss.backward();
  else
    loss.backward(Tensor::full(loss.shape(), weight, loss.dtype(), model_.device()));
  if (last) {
    optimizer_.step(clock_.learning_rate());
    optimizer_.zero_grad();
  }
  clock_.tick(loss.value(), inputs.size(0), last ? &optimizer_.grad_norm_tensor() : nullptr);
}

bool TrainSteps::is_due() const {
  if (unread_.empty()) return false;
  return std::ssize(unread_) >= unread_limit_ ||
         std::chrono::duration<double>(Clock::now() - unread_since_).count() > kUnreadSeconds;
}

std::vector<StepResult> TrainSteps::read(double& seconds) {
  seconds = 0;
  if (unread_.empty()) return {};
  const std::vector<StepClock::Row> rows = clock_.read(std::ssize(unread_));
  seconds = std::chrono::duration<double>(Clock::now() - unread_since_).count();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    unread_[i].losses.assign(rows[i].losses.begin(), rows[i].losses.begin() + std::ssize(unread_[i].weights));
    unread_[i].grad_norm = rows[i].norm;
  }
  return std::exchange(unread_, {});
}

}  // namespace wedge::app
