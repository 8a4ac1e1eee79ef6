// One thread, some hundred bytes.
#include "kernels/train_clock.h"

#include "kernels/cuda/common.cuh"

namespace wedge::cu {
namespace {

template <class T>
__global__ void train_tick_kernel(TrainTick<T> args) {
  tick(args);
}

}  // namespace

template <class T>
void train_tick(const Exec& exec, const TrainTick<T>& args) {
  launch("train_tick", train_tick_kernel<T>, 1, 1, 0, exec.stream, args);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(train_tick, TrainTick)
}  // namespace wedge
