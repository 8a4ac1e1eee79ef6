// nlohmann's JSON. The members of the class whose keys stay in order are compiled once, in json.cpp: in every
// file that uses it they would be most of what it takes to compile.
#pragma once

#include <nlohmann/json.hpp>

extern template class nlohmann::basic_json<nlohmann::ordered_map>;
