#include "data/corpus.h"

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace wedge;
  const auto path = fuzz::as_file({reinterpret_cast<const char*>(data), size});
  fuzz::allowed([&] {
    data::CorpusOptions options;
    options.source = "tokens";
    options.path = path.string();
    const data::Corpus corpus = load_corpus(options, {data::Split::train, data::Split::validation});
    for (const auto* tokens : {&corpus.train, &corpus.validation}) {
      fuzz::require(tokens->size() * sizeof(std::int32_t) <= size, "more tokens than the file holds");
      for (const std::int32_t id : *tokens)
        fuzz::require(id >= 0 && id < corpus.vocab_size, "an id out of range");
    }
  });
  return 0;
}
