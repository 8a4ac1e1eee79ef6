#include "data/builtin_corpus.h"

#include <cctype>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <utility>

#include "data/builtin_words.h"
#include "tensor/check.h"
#include "tensor/rng.h"

namespace wedge::data {
namespace {

constexpr std::uint64_t kSeed = 1918;
constexpr std::size_t kLongParagraph = 85;  // no new sentence starts after so many tokens
constexpr std::int32_t kNone = -1;
constexpr std::int64_t kAll = std::numeric_limits<std::int64_t>::max();

// A class of words that may come next. Its mass against the other options is shared out by the words'
// weights, which a habit turns around: the first word's weight goes to word number `habit`, and so on. So a
// verb prefers some subjects.
struct Option {
  std::uint32_t mass;
  WordClass words;
  std::int32_t habit = 0;  // >= 0
  std::int32_t except = kNone;
};

// Where words come from: each call of next() is told all that may come, which must be disjoint classes, and
// takes one.
class WordSource {
 public:
  virtual ~WordSource() = default;
  virtual std::int32_t next(std::span<const Option> options) = 0;
};

std::uint64_t total_mass(std::span<const Option> options) {
  std::uint64_t sum = 0;
  for (const Option& option : options) sum += option.mass;
  return sum;
}

std::uint64_t weight_of(const Option& option, std::int32_t word) {
  const auto& [mass, words, habit, except] = option;
  if (word == except) return 0;
  const std::int32_t rank = (word - words.first + words.count - habit % words.count) % words.count;
  return builtin_words().weights[static_cast<std::size_t>(words.first + rank)];
}

std::uint64_t total_weight(const Option& option) {
  std::uint64_t sum = 0;
  for (std::int32_t i = 0; i < option.words.count; ++i) sum += weight_of(option, option.words.first + i);
  return sum;
}

double probability_of(std::span<const Option> options, const Option& option, std::int32_t word) {
  return static_cast<double>(option.mass) / static_cast<double>(total_mass(options)) *
         static_cast<double>(weight_of(option, word)) / static_cast<double>(total_weight(option));
}

// Draws the words, and notes how probable each was.
class Inventor : public WordSource {
 public:
  Inventor(Split split, BuiltinText& text)
      : rng_(kSeed, RandomStream::corpus, static_cast<std::uint32_t>(split)), text_(text) {}

  std::int32_t next(std::span<const Option> options) override {
    std::uint64_t left = rng_.below(total_mass(options));
    const Option* option = options.data();
    for (; left >= option->mass; ++option) left -= option->mass;
    left = rng_.below(total_weight(*option));
    std::int32_t word = option->words.first;
    for (; left >= weight_of(*option, word); ++word) left -= weight_of(*option, word);
    text_.tokens.push_back(word);
    text_.surprisal.push_back(-std::log(probability_of(options, *option, word)));
    return word;
  }

 private:
  Rng rng_;
  BuiltinText& text_;
};

// Follows a text that is there already.
class Reader : public WordSource {
 public:
  struct EndOfText {};

  Reader(std::span<const std::int32_t> tokens, const NextWordVisitor& visit)
      : tokens_(tokens), visit_(visit) {}

  std::int32_t next(std::span<const Option> options) override {
    const std::size_t position = surprisal_.size();
    if (position == tokens_.size()) throw EndOfText();
    if (visit_) visit_(position, list(options));
    const std::int32_t word = tokens_[position];
    for (const Option& option : options) {
      if (option.mass > 0 && option.words.contains(word) && word != option.except) {
        surprisal_.push_back(-std::log(probability_of(options, option, word)));
        return word;
      }
    }
    throw Error(fmt::format("builtin: the token {} at position {} cannot follow there", word, position));
  }

  std::vector<double> take_surprisal() { return std::move(surprisal_); }

 private:
  std::span<const NextWord> list(std::span<const Option> options) {
    words_.clear();
    for (const Option& option : options) {
      for (std::int32_t word = option.words.first; option.words.contains(word); ++word) {
        const double p = probability_of(options, option, word);
        if (p > 0) words_.push_back({word, p});
      }
    }
    return words_;
  }

  std::span<const std::int32_t> tokens_;
  const NextWordVisitor& visit_;
  std::vector<double> surprisal_;
  std::vector<NextWord> words_;
};

// The grammar. It keeps only what can be read off the words said so far.
class Storyteller {
 public:
  explicit Storyteller(WordSource& source) : source_(source) {}

  void paragraph() {
    said_ = 0;
    subject_.reset();
    Hero heroes[2];
    introduce(heroes[0], {});
    introduce(heroes[1], heroes[0]);
    int last = 1;  // the person last spoken of, who is likely to be spoken of again
    for (int sentences = 0;; ++sentences) {
      const bool may_recall = sentences >= 2;
      const std::uint32_t go_on = said_ < kLongParagraph ? 1 : 0;
      const WordClass pronoun = subject_ ? w_.pronouns[subject_->kind][subject_->number] : w_.comma;
      const std::int32_t first = say({
          {go_on * 12, w_.the},
          {go_on * 6, w_.determiners[kSingular]},
          {go_on * 8, w_.determiners[kPlural]},
          {go_on * 5, w_.openers},
          {subject_ ? go_on * 15 : 0, pronoun},
          {go_on * (last == 0 ? 55 : 15), word_class(heroes[0].name)},
          {go_on * (last == 1 ? 55 : 15), word_class(heroes[1].name)},
          {go_on == 0 || may_recall ? 6u : 0u, w_.end},
      });
      if (first == w_.end.first) return;
      if (first == heroes[0].name || first == heroes[1].name) {
        last = first == heroes[0].name ? 0 : 1;
        continue_about(heroes[last], may_recall);
      } else if (subject_ && pronoun.contains(first)) {
        predicate();
      } else {
        describe(first);
      }
    }
  }

 private:
  struct Hero {
    std::int32_t name = kNone, habit = 0, object = kNone, place = kNone;
  };
  struct Subject {
    Kind kind;
    Number number;
    std::int32_t habit;  // which verbs it prefers
  };

  static WordClass word_class(std::int32_t word) { return {word, 1}; }

  std::int32_t say(std::initializer_list<Option> options) {
    ++said_;
    return source_.next({options.begin(), options.size()});
  }
  std::int32_t say(const WordClass& words) { return say({{1, words}}); }

  // "Anna kept a lamp in the cellar ." Two persons of a paragraph share nothing.
  void introduce(Hero& hero, const Hero& other) {
    hero.name = say({{1, w_.names, 0, other.name}});
    hero.habit = w_.names.number_of(hero.name);
    say(w_.kept);
    say(w_.a);
    hero.object = say({{1, w_.objects, hero.habit, other.object}});
    say(w_.in);
    say(w_.the);
    hero.place = say({{1, w_.places, w_.objects.number_of(hero.object), other.place}});
    say(w_.stop);
  }

  // A sentence about a person who was introduced and whose name is said: "(Anna) still had the lamp .",
  // "(Anna) went back to the cellar ." or anything that a person does.
  void continue_about(const Hero& hero, bool may_recall) {
    const std::uint32_t recall = may_recall ? 25 : 0;
    const std::int32_t verb = say({{recall, w_.still},
                                   {recall, w_.went},
                                   {25, w_.verbs[kPerson][kSingular], hero.habit},
                                   {15, w_.transitive[kSingular], hero.habit}});
    subject_ = Subject{kPerson, kSingular, hero.habit};
    if (verb == w_.still.first) {
      say(w_.had);
      say(w_.the);
      say(word_class(hero.object));
    } else if (verb == w_.went.first) {
      say(w_.back);
      say(w_.to);
      say(w_.the);
      say(word_class(hero.place));
    } else {
      return finish(verb);
    }
    say(w_.stop);
  }

  // A sentence about somebody new, whose first word is said: an opener or a determiner.
  void describe(std::int32_t first) {
    if (w_.openers.contains(first)) {
      say(w_.comma);
      first = say({{36, w_.the}, {20, w_.determiners[kSingular]}, {20, w_.determiners[kPlural]}});
    }
    const bool singular = !w_.determiners[kPlural].contains(first);
    const bool plural = !w_.determiners[kSingular].contains(first);
    subject_ = noun_phrase(singular, plural, true);
    std::int32_t next = say_verb_or_preposition(30);
    if (w_.prepositions.contains(next)) {
      say(w_.the);
      say({{1, w_.scenery[kSingular]}, {1, w_.scenery[kPlural]}});
      next = say_verb_or_preposition(0);
    }
    finish(next);
  }

  // What follows a determiner: maybe an adjective, then a noun that suits it.
  Subject noun_phrase(bool singular, bool plural, bool with_adjective) {
    const std::uint32_t s = singular ? 1 : 0, p = plural ? 1 : 0, adjective = with_adjective ? s + p : 0;
    std::int32_t word = say({{3 * adjective, w_.adjectives[kPerson]},
                             {3 * adjective, w_.adjectives[kAnimal]},
                             {3 * adjective, w_.adjectives[kThing]},
                             {8 * s, w_.nouns[kPerson][kSingular]},
                             {8 * s, w_.nouns[kAnimal][kSingular]},
                             {8 * s, w_.nouns[kThing][kSingular]},
                             {8 * p, w_.nouns[kPerson][kPlural]},
                             {8 * p, w_.nouns[kAnimal][kPlural]},
                             {8 * p, w_.nouns[kThing][kPlural]}});
    for (const Kind kind : {kPerson, kAnimal, kThing}) {
      const auto& nouns = w_.nouns[kind];
      if (w_.adjectives[kind].contains(word)) word = say({{s, nouns[kSingular]}, {p, nouns[kPlural]}});
      if (nouns[kSingular].contains(word)) return {kind, kSingular, nouns[kSingular].number_of(word)};
      if (nouns[kPlural].contains(word)) return {kind, kPlural, nouns[kPlural].number_of(word)};
    }
    throw Error("builtin: the noun classes do not fit the grammar");
  }

  // A verb that agrees with the subject, or what may stand between the two.
  std::int32_t say_verb_or_preposition(std::uint32_t preposition_mass) {
    const auto [kind, number, habit] = *subject_;
    return say({{45, w_.verbs[kind][number], habit},
                {kind == kThing ? 0u : 25u, w_.transitive[number], habit},
                {preposition_mass, w_.prepositions}});
  }

  void predicate() { finish(say_verb_or_preposition(0)); }

  // All that follows the verb.
  void finish(std::int32_t verb) {
    const auto [kind, number, habit] = *subject_;
    if (w_.transitive[number].contains(verb)) {
      say(w_.the);
      noun_phrase(true, true, false);
    } else {
      const std::int32_t next = say({{50, w_.stop}, {30, w_.adverbs}, {20, w_.conjunction}});
      if (w_.stop.contains(next)) return;
      if (w_.conjunction.contains(next)) say({{1, w_.verbs[kind][number], habit, verb}});
    }
    say(w_.stop);
  }

  WordSource& source_;
  const BuiltinWords& w_ = builtin_words();
  std::size_t said_ = 0;
  std::optional<Subject> subject_;
};

}  // namespace

const std::vector<std::string>& builtin_vocabulary() {
  return builtin_words().vocabulary;
}

BuiltinText builtin_corpus(Split split, std::optional<std::int64_t> max_paragraphs) {
  const std::size_t enough = split == Split::train ? 120'000 : 12'000;
  BuiltinText text;
  Inventor inventor(split, text);
  Storyteller teller(inventor);
  while (text.tokens.size() < enough &&
         static_cast<std::int64_t>(text.ends.size()) < max_paragraphs.value_or(kAll)) {
    teller.paragraph();
    text.ends.push_back(static_cast<std::int64_t>(text.tokens.size()));
  }
  return text;
}

std::vector<double> builtin_surprisal(std::span<const std::int32_t> tokens, const NextWordVisitor& visit) {
  Reader reader(tokens, visit);
  Storyteller teller(reader);
  try {
    for (;;) teller.paragraph();
  } catch (const Reader::EndOfText&) {
    return reader.take_surprisal();
  }
}

std::string BuiltinReader::operator()(std::int32_t token) {
  const BuiltinWords& words = builtin_words();
  WEDGE_CHECK(token >= 0 && token < static_cast<std::int32_t>(words.vocabulary.size()),
              "builtin: {} is no token of the built-in corpus", token);
  std::string word = words.vocabulary[static_cast<std::size_t>(token)];
  const bool ends = words.end.contains(token), stops = words.stop.contains(token);
  if (ends) {
    word = "\n\n";
  } else if (!stops && !words.comma.contains(token)) {
    if (starts_sentence_) word[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(word[0])));
    if (!starts_line_) word.insert(0, " ");
  }
  starts_sentence_ = ends || stops;
  starts_line_ = ends;
  return word;
}

std::string builtin_text(std::span<const std::int32_t> tokens) {
  BuiltinReader read;
  std::string text;
  for (const std::int32_t token : tokens) text += read(token);
  return text;
}

}  // namespace wedge::data
