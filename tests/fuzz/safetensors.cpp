#include "tensor/safetensors.h"

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace wedge;
  const auto path = fuzz::as_file({reinterpret_cast<const char*>(data), size});
  fuzz::allowed([&] {
    const SafetensorsFile file(path);
    for (const auto& [name, entry] : file.entries()) {
      fuzz::require(entry.bytes <= size, "an entry larger than its file");
      fuzz::read_all(entry.data, entry.bytes);
      if (entry.dtype) fuzz::require(file.tensor(name).shape() == entry.shape, "a tensor of another shape");
    }
  });
  return 0;
}
