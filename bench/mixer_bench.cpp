// Times whole mixers; kHelp below has what it takes and prints.
#include "bench/harness.h"
#include "bench/step_products.h"
#include "models/mixers.h"

using namespace wedge;

namespace {

constexpr const char* kHelp =
    R"(usage: mixer_bench [--device=cpu|cuda|all] [--quick] [Google Benchmark's options]

Times whole mixers, [B, L, d] -> [B, L, d] with all their products, at the founding width (d 256, r 32, six lags, four
heads): forward, and forward with backward to the input and the weights.
  mixer/...   B x L = 32x128, 512x128 and 32x256
  length/...  L from 128 on with B L constant: 65,536 tokens up to that length on a GPU, 2,048 on the CPU

  --device=cpu|cuda|all  default cpu. On a GPU each comes twice: /cuda in float32, and /cuda_bf16 with products of
                         bfloat16 copies
  --quick                to see that it works: a GPU's rates are of small sizes, and its lengths' tokens 2,048 too
  --benchmark_filter=mixer/ picks; OMP_NUM_THREADS=2 in the environment sets threads

Figures are those of ops_bench, whose --help explains them, and tokens/s. Counted are the matrix products, attention's
over the half of the matrix that is not hidden, and the bytes of a mixer that keeps all between input and output on
the chip: of_copy says how far from that it is. Every call of a round has its own input; the weights are the same, as
in a step.

With bfloat16 products the weights' copies are made before what is timed, as in training AdamW writes them; only
W_plu's is made within. PyTorch's autocast, beside which bench/peers holds these times, casts weights within them.
Activations and gradients are cast within them on both sides.
)";

struct Size {
  std::string mixer;
  std::int64_t B, L;
  bool backward;
};

struct Work {
  double flops, bytes;
};

Work work_of(const Size& size, const ModelConfig& config, bool bf16_products) {
  const auto B = static_cast<double>(size.B), L = static_cast<double>(size.L), T = B * L;
  const auto d = static_cast<double>(config.d_model);
  double products = 0, weights = 0, read = 0;
  for (const bench::LinearProduct& p : bench::mixer_products(config, size.B * size.L)) {
    const auto weight = static_cast<double>(p.N * p.K * p.count);
    products += p.flops();
    weights += weight;
    // All but W_plu are there as bfloat16 too, where products take that.
    read += bf16_products && p.name != "expand" ? weight / 2 : weight;
  }
  // Of a query and a key that it sees.
  const double pairs = size.mixer == "attention" ? B * L * (L + 1) / 2 : 0;
  const double forward = products + 4 * d * pairs, backward = 2 * products + 10 * d * pairs;
  const double forward_bytes = 4 * (2 * T * d + read), backward_bytes = 4 * (3 * T * d + read + weights);
  return {forward + (size.backward ? backward : 0), forward_bytes + (size.backward ? backward_bytes : 0)};
}

void run(benchmark::State& state, const Size& size, const bench::Place& place) {
  const Bf16ProductsGuard products(place.bf16_products);
  const ModelConfig config{.tensor_lifting_strategy = size.mixer};
  Init init(config, 1, DType::f32, place.device);
  const auto mixer = find_mixer(size.mixer).make(config, 0, init);
  const NamedParameters parameters = mixer->named_parameters();

  const Shape shape = {size.B, size.L, config.d_model};
  Rng rng(7);
  const Tensor h = Tensor::normal(shape, rng, 0, 1);
  std::vector<Variable> inputs, results;
  const std::int64_t sets = bench::sets_beyond_cache(place.device, 4.0 * static_cast<double>(h.numel()));
  for (std::int64_t i = 0; i < sets; ++i) inputs.emplace_back(h.to(place.device), size.backward);
  results.resize(inputs.size());
  const Tensor dy = Tensor::full(shape, 1e-3, DType::f32, place.device);

  const auto forward = [&](std::int64_t i) {
    const NoGradGuard no_grad;
    results[i] = (*mixer)(inputs[i]);
  };
  const auto forward_backward = [&](std::int64_t i) {
    for (const auto& [name, parameter] : parameters) parameter.zero_grad();
    (*mixer)(inputs[i]).backward(dy);
  };
  const auto forget = [&] {
    std::ranges::fill(results, Variable());
    for (const auto& [name, parameter] : parameters) parameter.zero_grad();
    for (const Variable& input : inputs) input.zero_grad();
  };
  std::function<void(std::int64_t)> call = forward;
  if (size.backward) call = forward_backward;
  bench::Stopwatch stopwatch(place.device, sets, call, forget);
  const Work work = work_of(size, config, place.bf16_products);
  bench::time(state, place, work.flops, work.bytes, stopwatch);
  state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(size.B * size.L) * state.iterations(),
                                                  benchmark::Counter::kIsRate);
}

}  // namespace

int main(int argc, char** argv) try {
  const bench::Harness harness(argc, argv, kHelp);
  const auto add = [&](const std::string& group, std::int64_t B, std::int64_t L, const bench::Place& place) {
    for (const char* mixer : {"grassmann", "attention"})
      for (const bool backward : {false, true}) {
        const Size size{mixer, B, L, backward};
        bench::add(fmt::format("{}/{}/{}x{}/{}{}", group, mixer, B, L,
                               backward ? "forward+backward" : "forward", place.name),
                   [size, &place](benchmark::State& state) { run(state, size, place); });
      }
  };
  for (const bench::Place& place : harness.places) {
    for (const auto& [B, L] : {std::pair{32, 128}, {512, 128}, {32, 256}}) add("mixer", B, L, place);
    const std::int64_t tokens = place.device == Device::cuda && !harness.quick ? 65536 : 2048;
    for (std::int64_t L = 128; L <= tokens; L *= 2) add("length", tokens / L, L, place);
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
} catch (const std::exception& e) {
  std::fprintf(stderr, "mixer_bench: error: %s\n", e.what());
  return 2;
}
