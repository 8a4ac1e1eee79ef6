// The mixer of models/README.md. Tests look for it there, compile it and check that it is one.
// README begin
#pragma once

#include "models/layers.h"
#include "models/mixers.h"

namespace wedge {

//   mix_t = W (h_t + h_{t-1}) / 2 + b, with h_{-1} = 0
class AverageMixer : public Mixer {
 public:
  AverageMixer(const ModelConfig& config, std::int64_t, Init& init)
      : projection_(config.d_model, config.d_model, init) {
    add_child("projection", projection_);
  }
  Variable operator()(const Variable& h) const override {
    const Variable nothing = Tensor::zeros({h.size(0), 1, h.size(2)}, h.dtype(), h.value().device());
    const Variable before = concat({nothing, slice(h, 1, 0, h.size(1) - 1)}, 1);
    return projection_((h + before) * 0.5);
  }
  static void validate(const ModelConfig&) {}

 private:
  Linear projection_;
};

}  // namespace wedge
// README end
