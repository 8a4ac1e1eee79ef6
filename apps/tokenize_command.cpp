// wedge tokenize: text on standard input to WordPiece ids on standard output, line by line.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "apps/commands.h"
#include "apps/console.h"
#include "apps/words.h"
#include "data/wordpiece.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

constexpr std::size_t kReadBytes = 1 << 20;

// Encodes lines as they come; the object's life is one stream.
class LineTokenizer {
 public:
  explicit LineTokenizer(const data::WordPiece& tokenizer) : tokenizer_(tokenizer) {}

  void line(std::string_view text) {
    ++line_;
    ids_.clear();
    try {
      tokenizer_.encode(text, ids_);
    } catch (const Error& error) {
      print(out_);
      throw Error(fmt::format("tokenize: line {}: {}", line_, error.what()));
    }
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      if (i > 0) out_ += ' ';
      const fmt::format_int digits(ids_[i]);
      out_.append(digits.data(), digits.size());
    }
    out_ += '\n';
  }

  void flush() {
    print(out_);
    flush_output();
    out_.clear();
  }

 private:
  const data::WordPiece& tokenizer_;
  std::int64_t line_ = 0;
  std::vector<std::int32_t> ids_;
  std::string out_;
};

}  // namespace

std::string tokenize_help() {
  return R"(usage: wedge tokenize vocab=FILE

Reads UTF-8 text from standard input and prints, for each line, its WordPiece ids with spaces between
them, as bert-base-uncased gives them, without special tokens. A line ends at \n only.

  vocab=FILE   vocabulary, one piece a line, such as bert-base-uncased/vocab.txt

example:
  echo 'Hello, world' | wedge tokenize vocab=vocab.txt
)";
}

int run_tokenize(const Words& words) {
  const data::WordPiece tokenizer = data::WordPiece::from_file(words.required("vocab", "FILE"));

  LineTokenizer lines(tokenizer);
  std::string pending;  // an unfinished line
  std::string buffer(kReadBytes, '\0');
  for (;;) {
    const ssize_t n = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    WEDGE_CHECK(n >= 0, "tokenize: cannot read standard input: {}", std::strerror(errno));
    if (n == 0) break;
    std::string_view chunk(buffer.data(), static_cast<std::size_t>(n));
    for (std::size_t end; (end = chunk.find('\n')) != std::string_view::npos; chunk.remove_prefix(end + 1)) {
      if (pending.empty()) {
        lines.line(chunk.substr(0, end));
      } else {
        pending += chunk.substr(0, end);
        lines.line(pending);
        pending.clear();
      }
    }
    pending += chunk;
    lines.flush();
    finish_output();  // nobody reads on: stop
  }
  if (!pending.empty()) lines.line(pending);
  lines.flush();
  return 0;
}

}  // namespace wedge::app
