// The three parts of a corpus.
#pragma once

#include <string_view>

namespace wedge::data {

enum class Split { train, validation, test };

constexpr std::string_view name_of(Split split) {
  switch (split) {
    case Split::train:
      return "train";
    case Split::validation:
      return "validation";
    default:
      return "test";
  }
}

}  // namespace wedge::data
