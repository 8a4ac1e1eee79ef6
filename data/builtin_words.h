// The words of the built-in corpus, sorted into the classes that its grammar speaks of.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace wedge::data {

// Words with neighbouring ids [first, first + count), any of which may stand in the same place.
struct WordClass {
  std::int32_t first = 0;
  std::int32_t count = 0;

  bool contains(std::int32_t word) const { return word >= first && word < first + count; }
  std::int32_t number_of(std::int32_t word) const { return word - first; }
};

// Grammatical number and what a noun stands for: indices of the arrays below.
enum Number { kSingular, kPlural, kNumbers };
enum Kind { kPerson, kAnimal, kThing, kKinds };

struct BuiltinWords {
  std::vector<std::string> vocabulary;  // by id, all distinct
  std::vector<std::uint32_t> weights;   // by id: how often, against the other words of the class

  WordClass names, objects, places;      // what a paragraph must remember; all alike often
  WordClass determiners[kNumbers], the;  // "the" goes with both numbers
  WordClass adjectives[kKinds];
  std::array<WordClass, kNumbers> nouns[kKinds];
  WordClass prepositions;
  WordClass scenery[kNumbers];  // nouns that come between a subject and its verb
  std::array<WordClass, kNumbers> verbs[kKinds];
  WordClass transitive[kNumbers];  // of persons and animals
  WordClass adverbs, openers;
  WordClass pronouns[kKinds][kNumbers];  // she it it, they they they
  WordClass kept, a, in, still, had, went, back, to, conjunction, comma, stop;
  WordClass end;  // "<p>", between paragraphs
};

// Made once; the ids never change, since checkpoints depend on them.
const BuiltinWords& builtin_words();

}  // namespace wedge::data
