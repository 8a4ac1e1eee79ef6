// What the targets share: input as a file, and the two ends that are allowed.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "tensor/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace wedge::fuzz {

[[noreturn]] inline void finding(const std::string& what) {
  std::fprintf(stderr, "finding: %s\n", what.c_str());
  std::abort();
}

inline void require(bool holds, const char* what) {
  if (!holds) finding(what);
}

// A file of this process's own that holds `bytes`.
inline std::filesystem::path as_file(std::string_view bytes, const char* name = "input") {
  static const std::filesystem::path folder = [] {
    std::string path = (std::filesystem::temp_directory_path() / "wedge_fuzz_XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) finding("cannot make a temporary folder");
    return path;
  }();
  const std::filesystem::path path = folder / name;
  std::FILE* file = std::fopen(path.c_str(), "wb");
  require(
      file != nullptr && (bytes.empty() || std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size()),
      "cannot write the input");
  std::fclose(file);
  return path;
}

// Uses bytes, so that reading them is not optimised away.
template <class Byte>
void read_all(const Byte* bytes, std::size_t count) {
  static volatile unsigned sink = 0;
  unsigned sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += static_cast<unsigned>(bytes[i]);
  sink = sink + sum;
}

// Runs `body`, which may throw wedge::Error with one line, and nothing else. Whether it came to its end.
template <class Body>
bool allowed(Body&& body) {
  try {
    body();
    return true;
  } catch (const Error& error) {
    const std::string_view message = error.what();
    require(!message.empty() && message.find('\n') == std::string_view::npos,
            "an error of several lines, or of none");
    return false;
  }
}

}  // namespace wedge::fuzz
