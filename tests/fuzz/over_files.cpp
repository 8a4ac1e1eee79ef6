// In place of libFuzzer: runs a target over files, and over what fixed rules make of each: cut short at
// places all over it, a bit flipped at places all over it, a piece doubled.
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "tests/fuzz/fuzz.h"

namespace {

constexpr std::size_t kPlaces = 64;

void run(const std::string& bytes) {
  // Of its own size exactly, so that a sanitizer sees a read beyond it.
  std::vector<std::uint8_t> copy(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

}  // namespace

int main(int argc, char** argv) {
  int files = 0;
  for (int i = 1; i < argc; ++i)
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(file), {}};
      run(bytes);
      for (std::size_t k = 0; k < std::min(kPlaces, bytes.size()); ++k) {
        const std::size_t place = bytes.size() * k / std::min(kPlaces, bytes.size());
        run(bytes.substr(0, place));
        std::string flipped = bytes;
        flipped[place] = static_cast<char>(flipped[place] ^ (1 << k % 8));
        run(flipped);
        run(bytes.substr(0, place) + bytes.substr(place / 2));
      }
      ++files;
    }
  std::printf("%d files\n", files);
  return files > 0 ? 0 : 1;
}
