#include "kernels/train_clock.h"

namespace wedge::cpu {

template <class T>
void train_tick(const Exec&, const TrainTick<T>& args) {
  tick(args);
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(train_tick, TrainTick)
}  // namespace wedge
