// The README's example: a two-layer network learns exclusive or. Tests run it and look for it in
// README.md.
#include <cstdio>

#include "autograd/ops.h"
#include "models/optimizer.h"
#include "tensor/rng.h"

using namespace wedge;

int main() {
  // README begin
  Rng rng(1);
  Variable x = Tensor::from(std::vector<float>{0, 0, 0, 1, 1, 0, 1, 1}, {4, 2});
  Variable y = Tensor::from(std::vector<float>{0, 1, 1, 0}, {4, 1});
  Variable w1 = parameter(Tensor::normal({8, 2}, rng, 0, 1)), b1 = parameter(Tensor::zeros({8}));
  Variable w2 = parameter(Tensor::normal({1, 8}, rng, 0, 1)), b2 = parameter(Tensor::zeros({1}));
  AdamW optimizer({{"w1", w1}, {"b1", b1}, {"w2", w2}, {"b2", b2}}, {.weight_decay = 0});
  for (int step = 0; step < 500; ++step) {
    optimizer.zero_grad();
    mean(square(linear(tanh(linear(x, w1, b1)), w2, b2) - y)).backward();
    optimizer.step(0.05);
  }
  // README end
  const double loss = mean(square(linear(tanh(linear(x, w1, b1)), w2, b2) - y)).item();
  std::printf("loss %g\n", loss);
  return loss < 1e-4 ? 0 : 1;
}
