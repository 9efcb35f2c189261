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

#: What only texts with a key have, should the target be misspelt; verity has long digits, too.
_KEYED_WORDS = re.compile(
    rf"{'|'.join(KEYED_TARGETS)}|{'|'.join(KEYED_OPTIONS)}|-plain|-essiv|capi:"
)

#: Hexadecimal digits of 8 bytes or more, perhaps in groups.
_LOOKS_LIKE_A_KEY = re.compile(r"(?:[0-9A-Fa-f][:._-]?){16,}")

#: Beside a key less is enough, wherever it is: a part of one, cut by a blank. No number is so long.
_LOOKS_LIKE_A_PART = re.compile(r"[0-9]{16,}|(?=[0-9]*[A-Fa-f])[0-9A-Fa-f]{8,}")

#: Names have digits in groups; in one row so many are a key.
_IS_A_KEY = re.compile(r"[0-9A-Fa-f]{12,}")

_LONG_MASK = re.compile(r"\*{9,}")

#: The longest number of 64 bits; a longer one is no number.
_MAX_NUMBER_DIGITS = 20


def mentions_keys(text: str) -> bool:
    """Whether there may be keys in a text: then all its lines are looked at more closely."""
    return _KEYED_WORDS.search(text) is not None


def masked(source: str, words: Sequence[Word], is_keyed: bool) -> str:
    """A line with stars for key bytes, and question marks for what a terminal would obey."""
    shown = [char if char.isprintable() else " " if char == "\t" else "?" for char in source]
    for begin, end in _secrets(words, is_keyed):
        shown[begin:end] = "*" * (end - begin)
    return "".join(shown)


def masked_name(name: str) -> str:
    """A name as it may be shown: a damaged line may have a key in the place of one."""
    return _IS_A_KEY.sub("********", name)


def squeezed(shown: str) -> str:
    """A masked text where no place has to be kept, without its long rows of stars."""
    return _LONG_MASK.sub("********", shown)


def _secrets(words: Sequence[Word], is_keyed: bool) -> Iterator[tuple[int, int]]:
    texts = [word.text for word in words]
    if "verity" in texts and not set(KEYED_TARGETS) & set(texts):
        return  # Its digests are no secret.
    for index, word in enumerate(words):
        where_a_key_is = index >= 2 and texts[index - 2] in KEYED_TARGETS
        if where_a_key_is and not _is_reference(word.text):
            yield word.begin, word.end
        if word.text.startswith(KEYED_OPTIONS):
            _, _, key = word.text.split(":", 2) if word.text.count(":") > 1 else ("", "", "")
            yield word.part(len(word.text) - len(key)).begin, word.end
        if is_keyed:
            yield from _places(word, _LOOKS_LIKE_A_PART)
            yield from _places(word, _LOOKS_LIKE_A_KEY)
        elif not word.text.startswith("/"):
            yield from _places(word, _LOOKS_LIKE_A_KEY)


def _places(word: Word, what: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Where in a word something stands; of a word with backslashes it is all of it."""
    text = word.text
    if text.isdigit() and len(text) <= _MAX_NUMBER_DIGITS and what is _LOOKS_LIKE_A_KEY:
        return
    is_exact = len(text) == word.end - word.begin
    for found in what.finditer(text):
        if is_exact:
            yield word.begin + found.start(), word.begin + found.end()
        else:
            yield word.begin, word.end


def _is_reference(text: str) -> bool:
    """Whether a word in the place of a key is none: - or a key of the kernel's keyring."""
    if text == "-":
        return True
    return text.startswith(":") and not _LOOKS_LIKE_A_KEY.search(text)
