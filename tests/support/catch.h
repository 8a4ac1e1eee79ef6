// Catch2, whichever major version the system has; Approx is spelled the same with both.
#pragma once

#if WEDGE_CATCH2_MAJOR >= 3
#include <catch2/catch_all.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>
#endif
