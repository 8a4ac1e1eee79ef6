// A corpus that the program makes itself, from a generator that knows its own entropy.
//
// Paragraphs of 20 to 100 tokens in simple English. Each begins by saying what two persons keep and where
// ("Anna kept a lamp in the cellar ."); later, up to 90 tokens on, the text comes back to it, any number of
// times ("Anna still had the lamp ."), and who remembers knows the word. In between, subjects and verbs agree
// in number across what stands between them ("the dogs near the old wall sleep and hide ."), pronouns take up
// the last subject, everybody has habits (which verbs, which things, which places), and whoever was last
// spoken of is likely to be spoken of again.
//
// Every random choice becomes a word at once, and what may come next depends on nothing but the words so far.
// So the probability of each token given all the text before it is known exactly, and the mean of -ln p over
// a stream is a floor: no model, whatever it sees of the past, has a lower expected loss. (In expectation: on
// a stream of finite length a model may come out lower by chance, by little. And a model that sees only its
// block's past cannot quite reach it, since most blocks begin within a paragraph, after things that will be
// asked for.)
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/split.h"

namespace wedge::data {

struct BuiltinText {
  std::vector<std::int32_t> tokens;
  std::vector<double> surprisal;   // -ln p(token | all tokens before it), nats; one for each token
  std::vector<std::int64_t> ends;  // where each paragraph ends (one past its "<p>")
};

// The words by id, "<p>" (the end of a paragraph) among them.
const std::vector<std::string>& builtin_vocabulary();

// The first max_paragraphs paragraphs of a split, or fewer: the whole has as many as it takes to reach
// 120,000 tokens (train) or 12,000 (validation, test). The same everywhere and always; the splits use
// different random numbers.
BuiltinText builtin_corpus(Split split, std::optional<std::int64_t> max_paragraphs = std::nullopt);

struct NextWord {
  std::int32_t token;
  double probability;
};
// Called for each token, before it is taken, with its position and all the words that could stand there.
using NextWordVisitor = std::function<void(std::size_t position, std::span<const NextWord> words)>;

// Scores a text of whole paragraphs from nothing but its tokens (the last paragraph may break off): -ln p of
// each. Throws wedge::Error naming the position of a token that the generator cannot say there.
std::vector<double> builtin_surprisal(std::span<const std::int32_t> tokens,
                                      const NextWordVisitor& visit = {});

// Tokens as readable text: capital letters, no space before punctuation, a blank line between paragraphs.
// Called with one token after another, gives what each adds. Throws wedge::Error for what is no token.
class BuiltinReader {
 public:
  std::string operator()(std::int32_t token);

 private:
  bool starts_sentence_ = true;
  bool starts_line_ = true;
};
std::string builtin_text(std::span<const std::int32_t> tokens);

}  // namespace wedge::data
