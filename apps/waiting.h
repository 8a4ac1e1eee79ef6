// How threads wait for each other.
#pragma once

namespace wedge::app {

// Threads of OpenMP that wait spin before they sleep, some 10 ms with GNU's runtime and 200 with LLVM's, and
// where other programs want the cores too, they spin in the time of the very thread that they wait for. This
// makes it 10,000 spins or 1 ms, which outlast the gaps within a step: on idle cores that costs nothing that
// could be measured, on busy ones it takes away the steps that last a hundred times as long
// (bench/notes/waiting.md).
//
// To be called first: GNU's runtime reads the environment when it is loaded, so the program is started again
// within the same process, with `argv`. Returns when it has been, where it can't be, and where the user has
// said how threads wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT, KMP_BLOCKTIME) or, with GNU's runtime, that they
// are bound to cores. valgrind and its like lose a program that starts again: set GOMP_SPINCOUNT for them.
void limit_spinning(char** argv);

}  // namespace wedge::app
