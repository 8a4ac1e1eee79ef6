#include "apps/waiting.h"

#if defined(__linux__)
#include <omp.h>
#include <sys/auxv.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <filesystem>

namespace wedge::app {

namespace {

// Sets the variable, unless the user has said how threads wait; whether it did.
[[maybe_unused]] bool set_where_free(const char* variable, const char* value) {
  return std::getenv(variable) == nullptr && std::getenv("OMP_WAIT_POLICY") == nullptr &&
         ::setenv(variable, value, 1) == 0;
}

}  // namespace

void limit_spinning([[maybe_unused]] char** argv) {
#if defined(__clang__)
  set_where_free("KMP_BLOCKTIME", "1");  // read at the first parallel loop
#elif defined(__linux__)
  // Bound already to the first of its cores, this thread would hand on that one alone.
  if (::omp_get_proc_bind() != omp_proc_bind_false) return;
  // Given to the loader as its argument (ld.so wedge ...), the program is not what /proc calls it; with
  // another user's rights it had better not follow a name.
  if (::getauxval(AT_BASE) == 0 || ::getauxval(AT_SECURE) != 0) return;
  if (!set_where_free("GOMP_SPINCOUNT", "10000")) return;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) ::execv(program.c_str(), argv);  // returns where it can't: the program goes on as it is
#endif
}

}  // namespace wedge::app
