// Training speed of both models beside the machine's limit: tokens/s, and the share of the rate that gemm
// reaches over the step's own matrix products, measured in turn in the same run. Prints one JSON line for
// each model and precision.
//
//   train_step_bench [key=value ...]     model=attention,grassmann device=cpu amp=false steps=8 batch=16
//                                        length=128 layers=6 threads=2 vocab=30522 dropout=0.1 side=true
//                                        paced=false
//
// device=cuda times steps that are replays of a graph, by events, as the trainer runs them; amp=false,true
// takes products of float32 factors and of bfloat16 copies of them, held against gemm in that type;
// side=true,false makes weight gradients beside the rest of backward and in their place. paced=true makes one
// step for each line it reads and prints its seconds, until there are no more (peers/train_step_in_turn.py).
// A step is loss, backward, clipping and AdamW of the founding configuration on random tokens. Its useful
// arithmetic is 6 flops a token for every weight that is multiplied, head included; attention's own products
// are not counted. `peak_tensor_mib` is that of the step: bytes of live tensors on the device, on a GPU with
// what cuBLAS works in (PyTorch's torch.cuda.max_memory_allocated counts that too).
#include <omp.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <map>

#include "autograd/compute.h"
#include "bench/machine_rates.h"
#include "bench/stopwatch.h"
#include "kernels/linear_cross_entropy.h"
#include "kernels/matmul.h"
#include "models/language_model.h"
#include "models/optimizer.h"
#include "tensor/cuda/side_stream.h"
#include "tensor/json.h"
#include "tensor/rng.h"

using namespace wedge;

namespace {

struct Product {
  std::int64_t M, N, K, count;
};

// The forward products of a step: y [M, N] = x [M, K] Wᵀ; each also has its two backward products. The head's
// are of some rows at a time on the CPU; on the GPU of all, as two of its three are there.
std::vector<Product> products_of(const ModelConfig& c, std::int64_t tokens, Device device) {
  const std::int64_t d = c.d_model, n = c.num_layers, P = c.d_low * (c.d_low - 1) / 2;
  std::vector<Product> all = {{tokens, c.expansion_ratio * d, d, n}, {tokens, d, c.expansion_ratio * d, n}};
  if (c.tensor_lifting_strategy == "attention") {
    all.insert(all.end(), {{tokens, 3 * d, d, n}, {tokens, d, d, n}});
  } else {
    all.insert(all.end(), {{tokens, c.d_low, d, n}, {tokens, d, P, n}, {tokens, d, d, 2 * n}});
  }
  const bool on_cpu = device == Device::cpu;
  const std::int64_t rows = on_cpu ? cpu::kLogitRows : tokens,
                     classes = on_cpu ? c.vocab_size : padded_classes(c.vocab_size);
  for (std::int64_t first = 0; first < tokens; first += rows)
    all.push_back({std::min(rows, tokens - first), classes, d, 1});
  return all;
}

double flops_of(const std::vector<Product>& products) {
  double flops = 0;
  for (const Product& p : products) flops += 6.0 * static_cast<double>(p.M * p.N * p.K * p.count);
  return flops;
}

// What the products of a step read and write: x, Wᵀ, y, and the gradients of x and W.
struct Operands {
  Tensor x, w, y, dx, dw;

  Operands(const std::vector<Product>& products, DType dtype, Device device) {
    std::int64_t input = 0, weight = 0, output = 0;
    for (const Product& p : products) {
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
void multiply_all(const std::vector<Product>& products, const Operands& o) {
  const Exec exec = compute::exec_of(o.x);
  const T *x = o.x.data<T>(), *w = o.w.data<T>();
  T *const y = o.y.data<T>(), *const dx = o.dx.data<T>(), *const dw = o.dw.data<T>();
  for (const auto& [M, N, K, count] : products)
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t pitch = cpu::logit_stride<float>(N);  // N itself but for logits
      gemm<T>(exec, {.trans_b = true,
                     .M = M,
                     .N = N,
                     .K = K,
                     .A = x,
                     .lda = K,
                     .B = w,
                     .ldb = K,
                     .C = y,
                     .ldc = pitch});
      gemm<T>(exec, {.M = M, .N = K, .K = N, .A = y, .lda = pitch, .B = w, .ldb = K, .C = dx, .ldc = K});
      gemm<T>(exec, {.trans_a = true,
                     .M = N,
                     .N = K,
                     .K = M,
                     .A = y,
                     .lda = pitch,
                     .B = x,
                     .ldb = K,
                     .C = dw,
                     .ldc = K});
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
  const Bf16ProductsGuard reduced(amp);
  if constexpr (kWithCuda) cu::set_side_stream(side);
  const std::int64_t tokens = batch * config.max_context_len;
  auto model = make_language_model(config, 42, DType::f32, device);
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
  if constexpr (kWithCuda) peak_bytes += cu::product_workspace_bytes();

  const auto products = products_of(config, tokens, device);
  const Operands operands(products, amp ? DType::bf16 : DType::f32, device);
  bench::Stopwatch products_alone(
      device, 1,
      [&](std::int64_t) {
        if constexpr (kWithCuda) {
          if (amp) return multiply_all<BFloat16>(products, operands);
        }
        multiply_all<float>(products, operands);
      },
      [] {});

  std::vector<double> step_seconds, product_seconds;
  for (int i = 0; i < steps; ++i) {
    product_seconds.push_back(products_alone.seconds());
    step_seconds.push_back(step.seconds());
  }
  const double flops = flops_of(products_of(config, tokens, Device::cpu));  // without padding
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
      line["gpu"] = cu::describe_device();
      line["side_stream"] = side;
      line["graph"] = step.is_graph();
      if (!step.is_graph()) line["why_no_graph"] = step.why_no_graph();
    }
  }
  return line;
}

// The words between commas.
std::vector<std::string> words_of(const std::string& list) {
  std::vector<std::string> words;
  for (std::string rest = list + ","; !rest.empty(); rest.erase(0, rest.find(',') + 1))
    words.push_back(rest.substr(0, rest.find(',')));
  return words;
}

Device device_named(const std::string& name) {
  WEDGE_CHECK(name == "cpu" || name == "cuda", "device: expected cpu or cuda, got '{}'", name);
  if (name == "cpu") return Device::cpu;
  if constexpr (kWithCuda) {
    WEDGE_CHECK(cu::device_count() > 0, "device=cuda: no GPU: {}", cu::why_no_device());
    return Device::cuda;
  }
  WEDGE_CHECK(false, "device=cuda: this build has no CUDA");
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> options = {{"model", "attention,grassmann"},
                                                {"device", "cpu"},
                                                {"amp", "false"},
                                                {"steps", "8"},
                                                {"batch", "16"},
                                                {"length", "128"},
                                                {"layers", "6"},
                                                {"threads", "2"},
                                                {"vocab", "30522"},
                                                {"dropout", "0.1"},
                                                {"side", "true"},
                                                {"paced", "false"}};
  try {
    for (int i = 1; i < argc; ++i) {
      const std::string argument = argv[i];
      const auto equals = argument.find('=');
      WEDGE_CHECK(equals != std::string::npos && options.contains(argument.substr(0, equals)),
                  "unknown argument '{}'", argument);
      options[argument.substr(0, equals)] = argument.substr(equals + 1);
    }
    omp_set_num_threads(std::stoi(options["threads"]));
    ModelConfig config;
    config.vocab_size = std::stoll(options["vocab"]);
    config.max_context_len = std::stoll(options["length"]);
    config.num_layers = std::stoll(options["layers"]);
    config.dropout_rate = std::stod(options["dropout"]);
    const Device device = device_named(options["device"]);
    const auto on_gpu_or = [&](const char* option, bool otherwise) {
      std::vector<bool> values;
      for (const std::string& word : words_of(options[option])) {
        values.push_back(word == "true");
        WEDGE_CHECK(
            (word == "true" || word == "false") && (device == Device::cuda || values.back() == otherwise),
            "{}: expected true or false, and on the CPU {}, got '{}'", option, otherwise, word);
      }
      return values;
    };
    WEDGE_CHECK(options["paced"] == "true" || options["paced"] == "false",
                "paced: expected true or false, got '{}'", options["paced"]);
    const bool paced = options["paced"] == "true";
    const int steps = std::stoi(options["steps"]);
    WEDGE_CHECK(steps >= 1, "steps: expected at least 1, got {}", steps);
    const auto models = words_of(options["model"]);
    const auto amps = on_gpu_or("amp", false), sides = on_gpu_or("side", true);
    WEDGE_CHECK(!paced || (models.size() == 1 && amps.size() == 1 && sides.size() == 1),
                "paced=true: expected one model, one amp and one side");
    for (const std::string& model : models)
      for (const bool amp : amps)
        for (const bool side : sides) {
          config.tensor_lifting_strategy = model;
          const auto line = measure(config, std::stoll(options["batch"]), steps, device, amp, side, paced);
          if (!paced) std::printf("%s\n", line.dump().c_str());
          std::fflush(stdout);
          release_cached_memory();
        }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "train_step_bench: error: %s\n", e.what());
    return 2;
  }
}
