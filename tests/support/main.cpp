// The entry of the test program.
#if WEDGE_CATCH2_MAJOR < 3
#define CATCH_CONFIG_RUNNER
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored \
    "-Wmaybe-uninitialized"  // a false alarm of GCC 12 in <regex>, with sanitizers only
#endif
#endif
#include "tests/support/catch.h"

int main(int argc, char** argv) {
  return Catch::Session().run(argc, argv);
}
