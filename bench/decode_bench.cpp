// Times incremental decoding; kHelp below says what.
#include <benchmark/benchmark.h>
#include <omp.h>

#include "bench/harness.h"
#include "models/language_model.h"

using namespace wedge;

namespace {

constexpr const char* kHelp = R"(usage: decode_bench [Google Benchmark's options]

Times a token of incremental decoding on the CPU after 128, 1,024 and 16,384 others, at the founding configuration's
sizes (12.6 M parameters, d 256, six layers, a vocabulary of 30,522) but with positions for all of them, and beside it
the same without the head, whose 31 MB of weights a token reads whatever the mixer. There is no --device and no
--quick; OMP_NUM_THREADS=2 in the environment sets threads.
)";
constexpr std::int64_t kTokens = 64;  // timed, from the position on
constexpr std::int64_t kVocab = 30522, kNoVocab = 2;

std::unique_ptr<LanguageModel> make_model(const std::string& mixer, std::int64_t vocab_size,
                                          std::int64_t position) {
  ModelConfig config;
  config.tensor_lifting_strategy = mixer;
  config.vocab_size = vocab_size;
  config.max_context_len = position + kTokens;
  auto model = std::make_unique<LanguageModel>(config, 1);
  model->set_training(false);
  return model;
}

void decode(benchmark::State& state, const std::string& mixer, std::int64_t vocab_size,
            std::int64_t position) {
  const auto model = make_model(mixer, vocab_size, position);
  const Tensor prompt = Tensor::full({1, position}, 1, DType::i32),
               token = Tensor::full({1, 1}, 1, DType::i32);
  Decoding decoding = model->start_decoding(1);
  model->extend(prompt, decoding);
  for (auto _ : state) benchmark::DoNotOptimize(model->extend(token, decoding).value().raw());
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

}  // namespace

int main(int argc, char** argv) {
  bench::explain_if_asked(argc, argv, kHelp);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("threads", std::to_string(omp_get_max_threads()));
  for (const std::int64_t position : {128, 1024, 16384})
    for (const char* mixer : {"attention", "grassmann"})
      for (const bool head : {true, false})
        benchmark::RegisterBenchmark(
            fmt::format("decode/{}/{}{}", mixer, position, head ? "" : "/no head").c_str(),
            [=](benchmark::State& state) { decode(state, mixer, head ? kVocab : kNoVocab, position); })
            ->UseRealTime()
            ->Iterations(kTokens)
            ->Unit(benchmark::kMillisecond);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
