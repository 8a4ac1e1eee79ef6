#include "data/tokens_source.h"

#include "tensor/safetensors.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using namespace wedge::data;
using Catch::Matchers::ContainsSubstring;

namespace {

Tensor vector_of(std::vector<std::int32_t> ids) {
  const auto n = static_cast<std::int64_t>(ids.size());
  return Tensor::from(ids, {n});
}

}  // namespace

TEST_CASE("tokens: the wanted splits and the vocabulary's size", "[tokens]") {
  test::TempDir dir;
  const auto path = dir / "t.safetensors";
  write_safetensors(
      path, {{"train", vector_of({0, 1, 9})}, {"validation", vector_of({})}, {"note", Tensor::zeros({2})}},
      {{"vocab_size", "10"}, {"more", "x"}});
  const auto both = read_token_file(path, {Split::train, Split::validation});
  CHECK(both.vocab_size == 10);
  CHECK(both.train == std::vector<std::int32_t>{0, 1, 9});
  CHECK(both.validation.empty());
  CHECK(read_token_file(path, {Split::validation}).train.empty());
  CHECK_THROWS_WITH(read_token_file(path, {Split::test}),
                    ContainsSubstring("t.safetensors: no tensor \"test\""));
}

TEST_CASE("tokens: an id outside the vocabulary is named with its place", "[tokens]") {
  test::TempDir dir;
  const auto path = dir / "t.safetensors";
  const std::map<std::string, std::string> ten = {{"vocab_size", "10"}};
  write_safetensors(path, {{"train", vector_of({3, 10, 11})}, {"validation", vector_of({3, 3, -1})}}, ten);
  CHECK_THROWS_WITH(read_token_file(path, {Split::train}),
                    ContainsSubstring("train[1] is 10, outside [0, 10)"));
  CHECK_THROWS_WITH(read_token_file(path, {Split::validation}), ContainsSubstring("validation[2] is -1"));
  CHECK(read_token_file(path, {}).vocab_size == 10);
}

TEST_CASE("tokens: what is not as promised", "[tokens]") {
  test::TempDir dir;
  const auto path = dir / "t.safetensors";
  for (const char* bad : {"", "0", "-1", "2147483648", "99999999999999999999", "10 ", "1e3", "ten"}) {
    INFO(bad);
    write_safetensors(path, {{"train", vector_of({0})}}, {{"vocab_size", bad}});
    CHECK_THROWS_WITH(read_token_file(path, {Split::train}),
                      ContainsSubstring("vocab_size is not a whole number"));
  }
  write_safetensors(path, {{"train", vector_of({0})}}, {});
  CHECK_THROWS_WITH(read_token_file(path, {Split::train}), ContainsSubstring("no vocab_size"));
  write_safetensors(path, {{"train", Tensor::zeros({3}, DType::i64)}}, {{"vocab_size", "5"}});
  CHECK_THROWS_WITH(read_token_file(path, {Split::train}),
                    ContainsSubstring("must be a vector of I32, is I64 [3]"));
  write_safetensors(path, {{"train", Tensor::zeros({3, 1}, DType::i32)}}, {{"vocab_size", "5"}});
  CHECK_THROWS_WITH(read_token_file(path, {Split::train}), ContainsSubstring("is I32 [3, 1]"));
  CHECK_THROWS_WITH(read_token_file(dir / "none", {Split::train}), ContainsSubstring("cannot open"));
}
