// The corpus that a configuration names.
#pragma once

#include <string>
#include <vector>

#include "apps/config.h"
#include "data/corpus.h"

namespace wedge::app {

// Loads the wanted splits from the source of config.data. With a vocabulary (a checkpoint's), text is cut
// into its pieces and no vocabulary file is read. Throws wedge::Error as data::load_corpus does.
data::Corpus load_corpus(const Config& config, const std::vector<data::Split>& wanted,
                         const std::vector<std::string>* vocabulary = nullptr);

}  // namespace wedge::app
