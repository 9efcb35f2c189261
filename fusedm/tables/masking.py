"""Key bytes are in no message: a line is masked before anything of it is shown.

Where a key should stand is masked whatever stands there, since it may be a key with a slip in it;
so is what looks like a key anywhere else, since words are easily given in the wrong order. Each
character becomes one star, so that carets stay right.
"""

import re
from collections.abc import Iterator, Sequence

from fusedm.tables.words import Word

#: The targets whose second argument is a key.
KEYED_TARGETS = ("crypt", "inlinecrypt", "default-key")

#: The options of integrity whose third part is a key: internal_hash:alg:key.
KEYED_OPTIONS = ("internal_hash:", "journal_crypt:", "journal_mac:")

#: Hexadecimal digits of 8 bytes or more, perhaps in groups.
_LOOKS_LIKE_A_KEY = re.compile(r"(?:[0-9A-Fa-f][:._-]?){16,}")

#: Where a key is to be expected, less is enough: part of one, cut by a blank.
_LOOKS_LIKE_A_PART = re.compile(r"(?=.*[A-Fa-f])[0-9A-Fa-f]{8,}")

_LONG_MASK = re.compile(r"\*{9,}")

#: The longest number of 64 bits; a longer one is no number. Beside a key no number is so long.
_MAX_NUMBER_DIGITS = 20
_MAX_DIGITS_BESIDE_A_KEY = 15


def masked(source: str, words: Sequence[Word]) -> str:
    """A line with stars for key bytes, and question marks for what a terminal would obey."""
    shown = [char if char.isprintable() else " " if char == "\t" else "?" for char in source]
    for begin, end in _secrets(words):
        shown[begin:end] = "*" * (end - begin)
    return "".join(shown)


def squeezed(shown: str) -> str:
    """A masked text where no place has to be kept, without its long rows of stars."""
    return _LONG_MASK.sub("********", shown)


def _secrets(words: Sequence[Word]) -> Iterator[tuple[int, int]]:
    texts = [word.text for word in words]
    is_keyed = any(text in KEYED_TARGETS for text in texts)
    for index, word in enumerate(words):
        where_a_key_is = index >= 2 and texts[index - 2] in KEYED_TARGETS
        if where_a_key_is and not _is_reference(word.text):
            yield word.begin, word.end
        elif word.text.startswith(KEYED_OPTIONS):
            second = word.text.find(":", word.text.index(":") + 1)
            if second >= 0:
                yield word.part(second + 1).begin, word.end
        elif "verity" not in texts:  # Its digests are no secret.
            yield from _lookalikes(word, is_keyed)


def _lookalikes(word: Word, is_keyed: bool) -> Iterator[tuple[int, int]]:
    text = word.text
    most = _MAX_DIGITS_BESIDE_A_KEY if is_keyed else _MAX_NUMBER_DIGITS
    if text.startswith("/") or (text.isdigit() and len(text) <= most):
        return
    if is_keyed and _LOOKS_LIKE_A_PART.fullmatch(text):
        yield word.begin, word.end
    for found in _LOOKS_LIKE_A_KEY.finditer(text):
        begin = word.part(found.start()).begin
        yield begin, begin + len(found[0]) if begin > word.begin or not found.start() else word.end


def _is_reference(text: str) -> bool:
    """Whether a word in the place of a key is none: - or a key of the kernel's keyring."""
    if text == "-":
        return True
    return text.startswith(":") and not _LOOKS_LIKE_A_KEY.search(text)
