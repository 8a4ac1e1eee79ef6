// What others published for experiments that wedge can repeat.
#pragma once

#include <string>
#include <vector>

#include "apps/config.h"

namespace wedge::app {

struct Published {
  std::string source;    // who, and how it differs
  std::string strategy;  // the mixer's name
  double perplexity;     // best validation perplexity
};

// The figures for the experiment that `config` (of a results.json) describes: WikiText-2 with as many rows,
// the same model but for the mixer, the same training but for the seed; norm order and initial weights where
// the source says which. Empty where there are none.
std::vector<Published> published_for(const Json& config);

}  // namespace wedge::app
