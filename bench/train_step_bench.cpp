// Training speed of both models beside the machine's limit; kHelp below has what it takes and prints.
#include <omp.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <iostream>

#include "autograd/compute.h"
#include "bench/arguments.h"
#include "bench/machine_rates.h"
#include "bench/step_products.h"
#include "bench/stopwatch.h"
#include "kernels/cpu/amx_tile.h"
#include "kernels/linear_cross_entropy.h"
#include "kernels/matmul.h"
#include "models/language_model.h"
#include "models/optimizer.h"
#include "tensor/cuda/side_stream.h"
#include "tensor/json.h"
#include "tensor/rng.h"

using namespace wedge;

namespace {

constexpr const char* kHelp =
    R"(usage: train_step_bench [KEY=VALUE ...]     train_step_bench --help

Training speed of both models beside the machine's limit. A step is loss, backward, clipping and AdamW of the
founding configuration on random tokens; on a GPU a replay of a graph, timed by events, as the trainer runs it.

)";
constexpr bench::Arguments::Key kKeys[] = {
    {"model", "attention,grassmann", "either or both"},
    {"device", "cpu", "cpu or cuda"},
    {"amp", "false",
     "or true, or true,false: products of bfloat16 copies, sums in float32; on the CPU with AMX"},
    {"steps", "8", "steps that are timed, each after the step's matrix products alone"},
    {"batch", "16", "sequences"},
    {"length", "128", "tokens of one"},
    {"layers", "6", "blocks"},
    {"threads", "2", "on the CPU"},
    {"vocab", "30522", "classes"},
    {"dropout", "0.1", "probability that an activation is dropped"},
    {"side", "true", "on a GPU also false or true,false: weight gradients beside the rest of backward"},
    {"paced", "false", "true: a step for each line of standard input, answered by its seconds alone"},
};
constexpr const char* kFigures = R"(
Prints a JSON line for each model, amp and side: what it ran on, the sizes, and
  tokens_per_second, step_seconds   by the median of the steps
  product_seconds, sgemm_gflops     of gemm over the step's own matrix products, in amp's type
  step_gflops                       useful arithmetic: 6 flops a token for every weight that is multiplied, the
                                    head's too; attention's own products are not counted
  share_of_sgemm                    product_seconds / step_seconds
  peak_tensor_mib                   of the step: live tensors on the device, on a GPU with what cuBLAS works in
                                    (as in PyTorch's torch.cuda.max_memory_allocated)
  device_memory_mib                 on a GPU, all that is in use on it when steps have run, by whomever: tensors, what
                                    the pool and graphs hold, context and kernels' code; the driver's total - free,
                                    torch.cuda.mem_get_info() in PyTorch. What a line leaves behind is in the next
  peak_rss_mib                      of the process so far: with more than one line, of all before it too
)";

double flops_of(const std::vector<bench::LinearProduct>& products) {
  double flops = 0;
  for (const bench::LinearProduct& p : products) flops += 3 * p.flops();
  return flops;
}

// What the products of a step read and write: x, Wᵀ, y, and the gradients of x and W.
struct Operands {
  Tensor x, w, y, dx, dw;

  Operands(const std::vector<bench::LinearProduct>& products, DType dtype, Device device) {
    std::int64_t input = 0, weight = 0, output = 0;
    for (const bench::LinearProduct& p : products) {
      input = std::max(input, p.M * p.K);
      weight = std::max(weight, p.N * p.K);
      output = std::max(output, p.M * cpu::logit_stride<float>(p.N));
    }
    x = bench::drawn(input, dtype, device);
    w = bench::drawn(weight, dtype, device);
    y = Tensor::zeros({output}, dtype, device);
    dx = Tensor::zeros({input}, dtype, device);
    dw = Tensor::zeros({weight}, dtype, device);
  }
};

// All products of a step, and nothing else.
template <class T>
void multiply_all(const std::vector<bench::LinearProduct>& products, const Operands& o) {
  const Exec exec = compute::exec_of(o.x);
  const T *x = o.x.data<T>(), *w = o.w.data<T>();
  T *const y = o.y.data<T>(), *const dx = o.dx.data<T>(), *const dw = o.dw.data<T>();
  for (const auto& [name, M, N, K, count] : products)
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t pitch = cpu::logit_stride<float>(N);  // N itself but for logits
      const GemmOperand<T> of_x{x, K}, of_w{w, K}, w_across = transposed(w, K);
      GemmOperand<T> of_y{y, pitch};
      // The head's logits and their gradient are bfloat16 then, in the same place.
      auto* const y_rounded = reinterpret_cast<BFloat16*>(y);
      bool rounded = false;
      if constexpr (std::is_same_v<T, float>) {
        rounded = name == "head" && cpu::rounds_logits(exec, M, N, K);
        if (rounded)
          cpu::rounded_gemm({.M = M, .N = N, .K = K, .A = of_x, .B = w_across, .C = {y_rounded, pitch}});
      }
      if (rounded)
        of_y = {nullptr, pitch, y_rounded};
      else
        gemm<T>(exec, {.M = M, .N = N, .K = K, .A = of_x, .B = w_across, .C = {y, pitch}});
      gemm<T>(exec, {.M = M, .N = K, .K = N, .A = of_y, .B = of_w, .C = {dx, K}});
      of_y.transposed = true;
      gemm<T>(exec, {.M = N, .N = K, .K = M, .A = of_y, .B = of_x, .C = {dw, K}});
    }
}

double median(std::vector<double> v) {
  std::ranges::sort(v);
  return v[v.size() / 2];
}

// A step for each line that is read.
void pace(bench::Stopwatch& step) {
  for (std::string line; std::getline(std::cin, line);) {
    std::printf("%.9f\n", step.seconds());
    std::fflush(stdout);
  }
}

// The line of figures; with `paced` nothing.
nlohmann::ordered_json measure(const ModelConfig& config, std::int64_t batch, int steps, Device device,
                               bool amp, bool side, bool paced) {
  const Bf16ProductsGuard reduced(amp, amp);
  if constexpr (kWithCuda) cu::set_side_stream(side);
  const std::int64_t tokens = batch * config.max_context_len;
  auto model = std::make_unique<LanguageModel>(config, 42, DType::f32, device);
  AdamW optimizer(model->named_parameters(), {});
  Rng rng(7);
  const auto random_ids = [&] {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
    for (auto& id : ids)
      id = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(config.vocab_size)));
    return Tensor::from(ids, {batch, config.max_context_len}).to(device);
  };
  const Tensor inputs = random_ids(), targets = random_ids();
  // Read from the device, as by the trainer; the masks of all steps are the same.
  const Tensor learning_rate = Tensor::full({1}, 1e-3, DType::f64).to(device);
  const Tensor counter = Tensor::zeros({3}, DType::i64).to(device);
  model->use_dropout_counter(counter);
  reset_peak_allocated_bytes(device);
  bench::Stopwatch step(
      device, 1,
      [&](std::int64_t) {
        optimizer.zero_grad();
        model->loss(inputs, targets).backward();
        optimizer.step(learning_rate);
      },
      [] {});
  if (paced) {
    pace(step);
    return {};
  }
  std::size_t peak_bytes = peak_allocated_bytes(device);
  double device_mib = 0;  // before there is what the products alone are made of
  if constexpr (kWithCuda) {
    peak_bytes += cu::product_workspace_bytes();
    if (device == Device::cuda) {
      const auto [free, total] = cu::device_memory();
      device_mib = static_cast<double>(total - free) / 1048576;
    }
  }

  const auto products = bench::step_products(config, tokens, device);
  const bool bf16_tensors = amp && device == Device::cuda;  // the CPU rounds what it packs
  const Operands operands(products, bf16_tensors ? DType::bf16 : DType::f32, device);
  bench::Stopwatch products_alone(
      device, 1,
      [&](std::int64_t) {
        if constexpr (kWithCuda) {
          if (bf16_tensors) return multiply_all<BFloat16>(products, operands);
        }
        multiply_all<float>(products, operands);
      },
      [] {});

  std::vector<double> step_seconds, product_seconds;
  for (int i = 0; i < steps; ++i) {
    product_seconds.push_back(products_alone.seconds());
    step_seconds.push_back(step.seconds());
  }
  const double flops = flops_of(bench::step_products(config, tokens, Device::cpu));  // without padding
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  nlohmann::ordered_json line = {{"model", config.tensor_lifting_strategy},
                                 {"device", name_of(device)},
                                 {"amp", amp},
                                 {"threads", omp_get_max_threads()},
                                 {"batch", batch},
                                 {"length", config.max_context_len},
                                 {"parameters", model->num_parameters()},
                                 {"tokens_per_second", static_cast<double>(tokens) / median(step_seconds)},
                                 {"step_seconds", median(step_seconds)},
                                 {"product_seconds", median(product_seconds)},
                                 {"step_gflops", flops / median(step_seconds) / 1e9},
                                 {"sgemm_gflops", flops / median(product_seconds) / 1e9},
                                 {"share_of_sgemm", median(product_seconds) / median(step_seconds)},
                                 {"peak_tensor_mib", static_cast<double>(peak_bytes) / 1048576},
                                 {"peak_rss_mib", static_cast<double>(usage.ru_maxrss) / 1024}};
  if constexpr (kWithCuda) {
    if (device == Device::cuda) {
      line["device_memory_mib"] = device_mib;
      line["gpu"] = cu::describe_device();
      line["side_stream"] = side;
      line["graph"] = step.is_graph();
      if (!step.is_graph()) line["why_no_graph"] = step.why_no_graph();
    }
  }
  return line;
}

Device device_named(const std::string& name) {
  if (name == "cpu") return Device::cpu;
  if constexpr (kWithCuda) {
    WEDGE_CHECK(cu::device_count() > 0, "device=cuda: no GPU: {}", cu::why_no_device());
    return Device::cuda;
  }
  WEDGE_CHECK(false, "device=cuda: this build has no CUDA");
}

}  // namespace

int main(int argc, char** argv) try {
  const bench::Arguments arguments(kKeys, argc, argv);
  if (arguments.asks_for_help()) {
    std::printf("%s%s%s", kHelp, bench::Arguments::help(kKeys).c_str(), kFigures);
    return 0;
  }
  constexpr std::int64_t kMost = 1 << 20;
  const auto threads = static_cast<int>(arguments.integer("threads", 1, 1024));
  const auto steps = static_cast<int>(arguments.integer("steps", 1, kMost));
  const std::int64_t batch = arguments.integer("batch", 1, kMost);
  ModelConfig config;
  config.vocab_size = arguments.integer("vocab", 1, kMost);
  config.max_context_len = arguments.integer("length", 1, kMost);
  config.num_layers = arguments.integer("layers", 1, 4096);
  config.dropout_rate = arguments.rate("dropout");
  const auto models = arguments.list("model", {"attention", "grassmann"});
  const Device device = device_named(arguments.choice("device", {"cpu", "cuda"}));
  const auto on_gpu_or = [&](const char* key, bool otherwise, bool anywhere = false) {
    std::vector<bool> values;
    for (const std::string& word : arguments.list(key, {"true", "false"})) {
      values.push_back(word == "true");
      WEDGE_CHECK(device == Device::cuda || values.back() == otherwise || anywhere,
                  "{}: expected {} on this CPU, got '{}'", key, otherwise, word);
    }
    return values;
  };
  const auto amps = on_gpu_or("amp", false, cpu::has_amx()), sides = on_gpu_or("side", true);
  const bool paced = arguments.choice("paced", {"true", "false"}) == "true";
  WEDGE_CHECK(!paced || (models.size() == 1 && amps.size() == 1 && sides.size() == 1),
              "paced=true: expected one model, one amp and one side");
  omp_set_num_threads(threads);
  for (const std::string& model : models)
    for (const bool amp : amps)
      for (const bool side : sides) {
        config.tensor_lifting_strategy = model;
        const auto line = measure(config, batch, steps, device, amp, side, paced);
        if (!paced) std::printf("%s\n", line.dump().c_str());
        std::fflush(stdout);
        release_cached_memory();
      }
} catch (const std::exception& e) {
  std::fprintf(stderr, "train_step_bench: error: %s\n", e.what());
  return 2;
}
