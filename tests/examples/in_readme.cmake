# cmake -DREADME=README.md -DSOURCE=two_layers.cpp -P in_readme.cmake: fails unless the README holds the example.
file(READ ${README} readme)
file(READ ${SOURCE} source)
string(REGEX REPLACE ".*// README begin(\n.*)  // README end.*" "\\1" example "${source}")
string(REPLACE "\n  " "\n" example "${example}")
string(FIND "${readme}" "${example}" at)
if(example STREQUAL source OR at EQUAL -1)
  message(FATAL_ERROR "README.md does not hold the example of ${SOURCE}:\n${example}")
endif()
