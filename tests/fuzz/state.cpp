#include "apps/run_state.h"

#include "apps/checkpoint_metadata.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace wedge;
  const auto path = fuzz::as_file({reinterpret_cast<const char*>(data), size}, "state_1.safetensors");
  fuzz::allowed([&] { app::check_state(path); });
  fuzz::allowed([&] { app::read_checkpoint(path); });
  return 0;
}
