"""BERT uncased WordPiece by Hugging Face `tokenizers`, as wedge must agree with it.

No special tokens are registered or added, so "[MASK]" in a text is ordinary text; nothing is truncated.
"""

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer


def read_vocab(path):
    """The entries of a vocab.txt, one a line; the line number is the id."""
    with open(path, encoding="utf-8", newline="\n") as file:
        return file.read().removesuffix("\n").split("\n")


def make_tokenizer(entries):
    """A tokenizer over a list of vocabulary entries, which must hold [UNK]."""
    vocab = {entry: index for index, entry in enumerate(entries)}
    tokenizer = Tokenizer(WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=True,
                                          lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer
