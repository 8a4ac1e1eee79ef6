// The mixer that models/README.md walks through.
#include "tests/examples/average.h"

#include "tests/support/catch.h"

using namespace wedge;

TEST_CASE("example mixer: averages a position with the one before it", "[models]") {
  ModelConfig config;
  config.d_model = 2;
  config.vocab_size = 5;
  Init init(config, 1, DType::f64, Device::cpu);
  const auto mixer = make_mixer<AverageMixer>(config, 0, init);
  const NamedParameters parameters = mixer->named_parameters();
  REQUIRE(parameters.size() == 2);
  CHECK(parameters[0].first == "projection.weight");
  parameters[0].second.set_value(Tensor::from(std::vector<double>{1, 0, 0, 1}, {2, 2}));
  parameters[1].second.set_value(Tensor::zeros({2}, DType::f64));
  const Variable h = Tensor::from(std::vector<double>{2, 4, 6, 8, 0, -2}, {1, 3, 2});
  CHECK((*mixer)(h).value().to_vector() == std::vector<double>{1, 2, 4, 6, 3, 3});
}
