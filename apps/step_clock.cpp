#include "apps/step_clock.h"

#include "autograd/compute.h"
#include "kernels/train_clock.h"

namespace wedge::app {
namespace {

constexpr std::int64_t kRow = 5;  // place in TrainClock
constexpr std::int64_t kWords = 6;
static_assert(sizeof(TrainClock) == kWords * sizeof(std::int64_t));

}  // namespace

StepClock::StepClock(std::uint64_t seed, std::int64_t epoch_steps, std::int64_t micro_steps,
                     std::int64_t rows, DType dtype, Device device)
    : seed_(seed),
      micro_steps_(micro_steps),
      clock_(Tensor::zeros({kWords}, DType::i64, device)),
      learning_rate_(Tensor::zeros({1}, DType::f64, device)),
      learning_rates_(Tensor::zeros({epoch_steps}, DType::f64, device)),
      losses_(Tensor::zeros({rows, micro_steps}, dtype, device)),
      norms_(Tensor::zeros({rows}, DType::f64, device)) {}

void StepClock::set(std::int64_t step, std::int64_t epoch_step, std::int64_t next_block,
                    std::span<const double> learning_rates) {
  const auto steps = static_cast<std::int64_t>(learning_rates.size());
  WEDGE_CHECK(0 <= epoch_step && epoch_step < steps && steps <= learning_rates_.numel(),
              "step clock: no step {} of {}, at most {}", epoch_step, steps, learning_rates_.numel());
  clock_.copy_from(Tensor::from(
      std::vector<std::int64_t>{static_cast<std::int64_t>(seed_), step, 0, next_block, epoch_step, 0},
      {kWords}));
  learning_rates_.slice(0, 0, steps).copy_from(Tensor::from(learning_rates, {steps}));
  learning_rate_.fill(learning_rates[static_cast<std::size_t>(epoch_step)]);
}

void StepClock::tick(const Tensor& loss, std::int64_t blocks, const Tensor* norm) {
  visit_floating(losses_.dtype(), "step clock", [&]<class T>(T) {
    TrainTick<T> args{.clock = reinterpret_cast<TrainClock*>(clock_.data<std::int64_t>()),
                      .blocks = blocks,
                      .loss = loss.data<T>(),
                      .micro_steps = micro_steps_,
                      .losses = losses_.data<T>()};
    if (norm != nullptr) {
      args.norm = norm->data<double>();
      args.norms = norms_.data<double>();
      args.epoch_steps = learning_rates_.numel();
      args.learning_rates = learning_rates_.data<double>();
      args.learning_rate = learning_rate_.data<double>();
    }
    train_tick<T>(compute::exec_of(clock_), args);
  });
  clock_.bump_version();
}

std::vector<StepClock::Row> StepClock::read(std::int64_t count) {
  const std::vector<double> losses = losses_.slice(0, 0, count).to_vector(),
                            norms = norms_.slice(0, 0, count).to_vector();
  std::vector<Row> rows;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto first = losses.begin() + i * micro_steps_;
    rows.push_back({{first, first + micro_steps_}, norms[static_cast<std::size_t>(i)]});
  }
  clock_.slice(0, kRow, kRow + 1).fill(0);
  return rows;
}

}  // namespace wedge::app
