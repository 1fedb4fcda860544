"""A toy tokenizer and a toy language model, both deterministic.

A token is a special mark, a byte, a made-up word with its leading space, or a pair of bytes. `decode(encode(text))` is
`text` for every text, and `encode(decode(ids))` is `ids` for generated ones. The next token depends on all the tokens
before it and on the seed alone, so that a stream which is cut off and resumed elsewhere from prompt plus generated ids
goes on exactly as it would have.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from zlib import crc32

from .mixing import mix

START_OF_TEXT, START_OF_TURN, END_OF_TURN = 0, 1, 2
_BYTES = 3
_WORDS = _BYTES + 256
_SYLLABLES = tuple(consonant + vowel for consonant in "bdklmnrs" for vowel in "aeio")
_WORD_LIST = tuple(f" {first}{second}" for first in _SYLLABLES for second in _SYLLABLES)
_WORD_IDS = {word: _WORDS + index for index, word in enumerate(_WORD_LIST)}
_WORD_PATTERN = re.compile(r" [bdklmnrs][aeio][bdklmnrs][aeio]")
_PAIRS = _WORDS + len(_WORD_LIST)
VOCABULARY = _PAIRS + 256 * 256

WORD_LENGTH = len(_WORD_LIST[0])


def word_text(token: int) -> str:
    """The text of a generated token; the end of turn has none."""
    return _WORD_LIST[token - _WORDS] if token >= _WORDS else ""


def encode(text: str) -> list[int]:
    """Token ids of `text`; lone surrogates become question marks."""
    ids: list[int] = []
    position = 0
    for match in _WORD_PATTERN.finditer(text):
        ids += _encode_bytes(text[position : match.start()].encode("utf-8", "replace"))
        ids.append(_WORD_IDS[match.group()])
        position = match.end()
    return ids + _encode_bytes(text[position:].encode("utf-8", "replace"))


def _encode_bytes(data: bytes) -> list[int]:
    even = len(data) & ~1
    pairs = [_PAIRS + high for (high,) in struct.iter_unpack(">H", data[:even])]
    return [*pairs, _BYTES + data[even]] if even < len(data) else pairs


def decode(ids: Iterable[int]) -> str:
    """Text of `ids`; special marks and ids outside the vocabulary have none."""
    return b"".join(map(_token_bytes, ids)).decode("utf-8", "replace")


def _token_bytes(token: int) -> bytes:
    if _BYTES <= token < _WORDS:
        return bytes((token - _BYTES,))
    if _WORDS <= token < _PAIRS:
        return _WORD_LIST[token - _WORDS].encode()
    if _PAIRS <= token < VOCABULARY:
        return (token - _PAIRS).to_bytes(2, "big")
    return b""


def encode_chat(messages: Iterable[tuple[str, str]]) -> list[int]:
    """Token ids of (role, text) turns, ending where the assistant's turn begins."""
    ids: list[int] = []
    for role, text in messages:
        ids += [START_OF_TURN, *encode(f"{role}\n{text}"), END_OF_TURN]
    return [*ids, START_OF_TURN, *encode("assistant\n")]


def digest(ids: Sequence[int], before: int = 0) -> int:
    """A 32-bit digest of a token sequence; `digest(b, digest(a))` is `digest(a + b)`."""
    return crc32(struct.pack(f"<{len(ids)}I", *ids), before)


class Continuation:
    """The tokens that follow a prompt under one seed, one by one."""

    __slots__ = ("_end_below", "_seed", "_state")

    def __init__(self, prompt: Sequence[int], seed: int, mean_tokens: int, salt: int = 0) -> None:
        """`mean_tokens`: how many tokens a turn has on average before it ends by itself; `salt` tells models apart."""
        self._state = digest(prompt, salt)
        self._seed = mix(seed) & ~0xFFFFFFFF
        self._end_below = (1 << 32) // mean_tokens

    def next(self, may_end: bool) -> int:
        """The next token id; `END_OF_TURN` only if `may_end`."""
        drawn = mix(self._seed ^ self._state)
        ends = may_end and (drawn >> 32) < self._end_below
        token = END_OF_TURN if ends else _WORDS + drawn % len(_WORD_LIST)
        self._state = crc32(token.to_bytes(4, "little"), self._state)
        return token
