// The entry of the test program.
#if WEDGE_CATCH2_MAJOR < 3
#define CATCH_CONFIG_RUNNER
#endif
#include "tests/support/catch.h"

int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
