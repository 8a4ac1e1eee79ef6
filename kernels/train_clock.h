// Where a training run is, kept on the device that trains: a step needs nothing from the host, and one that
// was captured in a graph goes on with the next batch, the next masks and the next learning rate.
#pragma once

#include <cstdint>

#include "kernels/exec.h"
#include "tensor/host_device.h"

namespace wedge {

// Eight bytes each, without padding.
struct TrainClock {
  std::int64_t seed, step, micro_step;  // of the dropout masks (kernels/dropout.h), in this order
  std::int64_t next_block;              // place in the epoch's order of the next batch's first block
  std::int64_t epoch_step;              // number of the step in the epoch
  std::int64_t row;                     // of the log that the next step goes to
};

// What follows a micro-step:
//   losses[row, micro_step] = loss;  next_block += blocks;  micro_step += 1
// and after the last of a step, when `norm` is not null:
//   norms[row] = norm;  row += 1;  step += 1;  epoch_step += 1;  micro_step = 0
//   learning_rate = learning_rates[epoch_step], if the epoch has one more step
template <class T>
struct TrainTick {
  TrainClock* clock;
  std::int64_t blocks;  // of the batch
  const T* loss;        // [1]
  std::int64_t micro_steps;
  T* losses;  // [rows, micro_steps]

  const double* norm = nullptr;  // [1]
  double* norms = nullptr;       // [rows]
  std::int64_t epoch_steps = 0;
  const double* learning_rates = nullptr;  // [epoch_steps]
  double* learning_rate = nullptr;         // [1] =
};

// By the one thread that there is.
template <class T>
WEDGE_HOST_DEVICE void tick(const TrainTick<T>& args) {
  TrainClock now = *args.clock;
  args.losses[now.row * args.micro_steps + now.micro_step] = *args.loss;
  now.next_block += args.blocks;
  ++now.micro_step;
  if (args.norm != nullptr) {
    args.norms[now.row++] = *args.norm;
    ++now.step;
    ++now.epoch_step;
    now.micro_step = 0;
    if (now.epoch_step < args.epoch_steps) *args.learning_rate = args.learning_rates[now.epoch_step];
  }
  *args.clock = now;
}

WEDGE_KERNEL(train_tick, TrainTick)

}  // namespace wedge
