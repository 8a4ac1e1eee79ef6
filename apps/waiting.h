// How threads wait for each other.
#pragma once

namespace wedge::app {

// Threads of OpenMP that wait spin before they sleep, some 10 ms with GNU's runtime and 200 with LLVM's, and
// where other programs want the cores too, they spin in the time of the very thread that they wait for. This
// makes it 10,000 spins or 1 ms, which outlast the gaps within a step: on idle cores nothing is slower, on
// busy ones a small model trains many times as fast (bench/NOTES.md).
//
// To be called first: GNU's runtime reads the environment when it is loaded, so the program is started again
// within the same process, with `argv`. Returns where the user has set OMP_WAIT_POLICY or the runtime's own
// variable (GOMP_SPINCOUNT, KMP_BLOCKTIME), when it has been started again, and where it can't be.
void limit_spinning(char** argv);

}  // namespace wedge::app
