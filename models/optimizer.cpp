#include "models/optimizer.h"

#include <map>

#include "autograd/compute.h"
#include "kernels/adamw.h"
#include "tensor/bf16_copy.h"

namespace wedge {

AdamW::AdamW(NamedParameters parameters, AdamWOptions options)
    : parameters_(std::move(parameters)), options_(options) {
  WEDGE_CHECK(!parameters_.empty(), "adamw: expected at least one parameter");
  const Device device = parameters_[0].second.value().device();
  scalars_ = Tensor::zeros({3}, DType::f64, device);
  learning_rate_ = Tensor::zeros({1}, DType::f64, device);
  squared_norm_ = Tensor::zeros({1}, DType::f64, device);
  norm_ = Tensor::zeros({1}, DType::f64, device);
  steps_ = Tensor::zeros({1}, DType::i64, device);
  std::map<const VariableState*, std::string> seen;
  for (const auto& [name, p] : parameters_) {
    const auto [other, is_new] = seen.emplace(p.state().get(), name);
    WEDGE_CHECK(is_new, "adamw: expected each parameter once, {} and {} are one", other->second, name);
    WEDGE_CHECK(p.dtype() == parameters_[0].second.dtype(),
                "adamw: expected parameters of one dtype, {} is {}", name, name_of(p.dtype()));
    WEDGE_CHECK(p.value().device() == device, "adamw: expected parameters on one device, {} is on {}", name,
                name_of(p.value().device()));
    first_.push_back(Tensor::zeros(p.shape(), p.dtype(), p.value().device()));
    second_.push_back(Tensor::zeros(p.shape(), p.dtype(), p.value().device()));
    p.grad_buffer();
  }
}

void AdamW::step(double learning_rate) {
  learning_rate_.fill(learning_rate);
  step(learning_rate_);
}

void AdamW::step(const Tensor& learning_rate) {
  WEDGE_CHECK(learning_rate.defined(), "adamw: expected a learning rate, got an undefined tensor");
  WEDGE_CHECK(learning_rate.dtype() == DType::f64 && learning_rate.numel() == 1 &&
                  learning_rate.device() == scalars_.device(),
              "adamw: expected a learning rate float64 [1] on {}, got {} {} on {}",
              name_of(scalars_.device()), name_of(learning_rate.dtype()), to_string(learning_rate.shape()),
              name_of(learning_rate.device()));
  visit_floating(parameters_[0].second.dtype(), "adamw", [&]<class T>(T) {
    const Exec exec = compute::exec_of(first_[0]);
    std::vector<AdamWTensor<T>> tensors;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const Variable& p = parameters_[i].second;
      const Tensor grad = p.grad();
      tensors.push_back({p.value().numel(), p.value().data<T>(), grad.defined() ? grad.data<T>() : nullptr,
                         first_[i].data<T>(), second_[i].data<T>(), Bf16Copy(p.value()).target()});
    }
    auto* const squares = squared_norm_.data<double>();
    auto* const scalars = reinterpret_cast<AdamWScalars*>(scalars_.data<double>());
    const AdamWPrepare prepare{.beta1 = options_.beta1,
                               .beta2 = options_.beta2,
                               .learning_rate = learning_rate.data<double>(),
                               .steps = steps_.data<std::int64_t>(),
                               .norm = norm_.data<double>(),
                               .scalars = scalars};
    squared_norm<T>(exec, {tensors, squares, &prepare});
    adamw_step<T>(exec, {tensors, options_.beta1, options_.beta2, options_.eps, options_.weight_decay,
                         options_.grad_clip, scalars, squares});
  });
  for (const auto& [name, p] : parameters_) {
    p.value().bump_version();
    Bf16Copy(p.value()).is_current();  // the step wrote the copy too, if there is one
  }
}

std::int64_t AdamW::steps() const {
  return steps_.to(Device::cpu).data<std::int64_t>()[0];
}

void AdamW::restore(std::int64_t steps, const std::vector<Tensor>& first, const std::vector<Tensor>& second) {
  WEDGE_CHECK(steps >= 0, "adamw: expected a number of steps, got {}", steps);
  for (const std::vector<Tensor>* moments : {&first, &second}) {
    WEDGE_CHECK(moments->size() == parameters_.size(), "adamw: expected {} moments, got {}",
                parameters_.size(), moments->size());
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const Tensor& moment = (*moments)[i];
      WEDGE_CHECK(moment.defined(), "adamw: the moments of {} are undefined", parameters_[i].first);
      WEDGE_CHECK(moment.shape() == first_[i].shape() && moment.dtype() == first_[i].dtype(),
                  "adamw: the moments of {} must be {} {}, got {} {}", parameters_[i].first,
                  name_of(first_[i].dtype()), to_string(first_[i].shape()), name_of(moment.dtype()),
                  to_string(moment.shape()));
    }
  }
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    first_[i].copy_from(first[i]);
    second_[i].copy_from(second[i]);
  }
  steps_.copy_from(Tensor::from(std::vector{steps}, {1}));
}

void AdamW::zero_grad() {
  for (const auto& [name, p] : parameters_) p.zero_grad();
}

}  // namespace wedge
