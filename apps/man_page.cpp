#include "apps/man_page.h"

#include <fmt/format.h>

#include "apps/commands.h"
#include "apps/config_keys.h"
#include "apps/help.h"
#include "data/unicode.h"

namespace wedge::app {

namespace {

// Text that roff takes as it is, in ASCII.
std::string roff(const std::string& text) {
  std::string out;
  bool line_start = true;
  for (std::size_t at = 0; at < text.size();) {
    const std::int32_t c = data::next_code_point(text, at);
    if (line_start && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else if (c > 127)
      out += fmt::format("\\[u{:04X}]", c);
    else
      out += static_cast<char>(c);
    line_start = c == '\n';
  }
  return out;
}

}  // namespace

std::string man_page() {
  std::string page = fmt::format(".TH WEDGE 1 \"\" \"wedge {}\" \"User Commands\"\n", WEDGE_VERSION);
  page += ".SH NAME\nwedge \\- train, compare and dissect small language models\n";
  page += ".SH SYNOPSIS\n.B wedge\nCOMMAND [arguments]\n.br\n.B wedge help\n[COMMAND | KEY]\n";
  page += ".SH COMMANDS\n";
  for (const Command& command : commands())
    page += fmt::format(".SS {}\n{}.\n.PP\n.nf\n{}.fi\n", command.name, roff(std::string(command.summary)),
                        roff(command.help()));
  page += ".SH KEYS\n";
  for (const Key& key : config_keys())
    page += fmt::format(".TP\n.B {}\n{}\n", roff(std::string(key.name)), roff(describe_key_in_a_line(key)));
  page +=
      ".SH EXIT STATUS\n0 where all went well; 2 for bad input or what the system refused, with one line on "
      "standard "
      "error; 130 and 143 for a run that SIGINT or SIGTERM ended, with a word on how to go on.\n";
  page +=
      ".SH ENVIRONMENT\n.TP\n.B WEDGE_DATA\nwhere WikiText\\-2 and the BERT vocabulary are (default "
      "~/.cache/wedge)\n.TP\n.B OMP_NUM_THREADS\nthreads, where train.threads is null\n.TP\n.B "
      "GOMP_SPINCOUNT, KMP_BLOCKTIME\nhow long waiting threads spin before they sleep, with GNU's and with "
      "LLVM's OpenMP: 10000 times and 1 ms, unless that, OMP_WAIT_POLICY or, with GNU's, OMP_PROC_BIND is "
      "set\n.TP\n.B WEDGE_AMX\n0: "
      "no products on an Intel processor's matrix unit\n";
  return page;
}

}  // namespace wedge::app
