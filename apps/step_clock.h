// The clock of a training run (kernels/train_clock.h) and the log of its steps, on the device that trains.
#pragma once

#include <span>
#include <vector>

#include "autograd/variable.h"

namespace wedge::app {

class StepClock {
 public:
  // A log of `rows` steps of at most `micro_steps` batches each, for epochs of at most `epoch_steps` steps.
  StepClock(std::uint64_t seed, std::int64_t epoch_steps, std::int64_t micro_steps, std::int64_t rows,
            DType dtype, Device device);

  // What a step reads, each at an address that stays the same.
  Tensor dropout_counter() const { return clock_.slice(0, 0, 3); }
  Tensor next_block() const { return clock_.slice(0, 3, 4); }
  const Tensor& learning_rate() const { return learning_rate_; }  // float64 [1]

  // Goes to the start of `step` of the run, which is `epoch_step` of its epoch and begins with block
  // `next_block` of the epoch's order. `learning_rates` are those of all steps of the epoch.
  void set(std::int64_t step, std::int64_t epoch_step, std::int64_t next_block,
           std::span<const double> learning_rates);

  // A batch of `blocks` is done; with the norm, a float64 [1], the step is. Waits for nothing.
  void tick(const Tensor& loss, std::int64_t blocks, const Tensor* norm = nullptr);

  struct Row {
    std::vector<double> losses;  // of micro_steps batches; those that the step had come first
    double norm;
  };
  // The first `count` rows of the log, which is then empty. Waits for the steps.
  std::vector<Row> read(std::int64_t count);

 private:
  std::uint64_t seed_;
  std::int64_t micro_steps_;
  Tensor clock_;  // int64, a TrainClock
  Tensor learning_rate_, learning_rates_, losses_, norms_;
};

}  // namespace wedge::app
