// What most tests include from outside, parsed once for each target of tests. Every file still includes what
// it uses: the sources of other targets are compiled without this.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tensor/json.h"
#include "tests/support/catch.h"
