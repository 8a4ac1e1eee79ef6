#include "apps/step_clock.h"

#include "tests/support/catch.h"

using namespace wedge;
using namespace wedge::app;

namespace {

using Values = std::vector<double>;

Tensor number(double x, DType dtype) {
  return Tensor::full({1}, x, dtype);
}

}  // namespace

TEST_CASE("step clock: batches move it on, steps log and take the next learning rate", "[apps]") {
  StepClock clock(7, 3, 2, 4, DType::f32, Device::cpu);
  const Tensor counter = clock.dropout_counter(), next = clock.next_block(), rate = clock.learning_rate();
  const auto at = [&] {
    Values all = counter.to_vector();
    all.push_back(next.item());
    all.push_back(rate.item());
    return all;
  };
  const auto micro_step = [&](double loss, std::int64_t blocks) {
    clock.tick(number(loss, DType::f32), blocks);
  };
  const auto last_micro_step = [&](double loss, std::int64_t blocks, double norm) {
    const Tensor of_step = number(norm, DType::f64);
    clock.tick(number(loss, DType::f32), blocks, &of_step);
  };

  clock.set(10, 0, 0, Values{0.5, 0.25, 0.125});
  CHECK(at() == Values{7, 10, 0, 0, 0.5});
  micro_step(1, 4);
  CHECK(at() == Values{7, 10, 1, 4, 0.5});
  last_micro_step(2, 4, 3);
  CHECK(at() == Values{7, 11, 0, 8, 0.25});
  last_micro_step(5, 3, 6);  // a step of one batch
  CHECK(at() == Values{7, 12, 0, 11, 0.125});
  auto rows = clock.read(2);
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].losses == Values{1, 2});
  CHECK(rows[0].norm == 3);
  CHECK(rows[1].losses[0] == 5);
  CHECK(rows[1].norm == 6);
  last_micro_step(8, 1, 9);  // the epoch's last: no rate follows; the log begins anew
  CHECK(at() == Values{7, 13, 0, 12, 0.125});
  rows = clock.read(1);
  CHECK(rows[0].losses[0] == 8);

  // In the middle of an epoch, as a run that is resumed.
  clock.set(14, 2, 16, Values{1, 2, 3});
  CHECK(at() == Values{7, 14, 0, 16, 3});
  CHECK_THROWS_AS(clock.set(15, 3, 24, Values{1, 2, 3}), Error);
  CHECK_THROWS_AS(clock.set(15, 0, 24, Values{1, 2, 3, 4}), Error);
}
