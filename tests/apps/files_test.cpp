#include "apps/files.h"

#include "tensor/check.h"
#include "tests/apps/command_runner.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using namespace wedge::app;
using wedge::test::slurp;
using wedge::test::TempDir;

TEST_CASE("files: of several, none is replaced where one cannot be written", "[apps]") {
  const TempDir temp;
  test::spill(temp / "a", "old");
  CHECK_THROWS_AS(write_files({{temp / "a", "new"}, {temp / "none/b", "new"}}), Error);
  CHECK(slurp(temp / "a") == "old");
  CHECK(test::snapshot(temp.path()).size() == 1);
  write_files({{temp / "a", "new"}, {temp / "b", "new"}});
  CHECK(slurp(temp / "a") + slurp(temp / "b") == "newnew");
}
