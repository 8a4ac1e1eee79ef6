# cmake -DREADME=README.md -DSOURCE=two_layers.cpp [-DINDENT="  "] -P in_readme.cmake: fails unless the README holds
# the example, which is indented by so much in the source.
file(READ ${README} readme)
file(READ ${SOURCE} source)
string(REGEX REPLACE ".*// README begin(\n.*)// README end.*" "\\1" example "${source}")
string(REGEX REPLACE "\n *$" "\n" example "${example}")
string(REPLACE "\n${INDENT}" "\n" example "${example}")
string(FIND "${readme}" "${example}" at)
if(example STREQUAL source OR at EQUAL -1)
  message(FATAL_ERROR "${README} does not hold the example of ${SOURCE}:\n${example}")
endif()
