"""The toy tokenizer and the toy model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilotlight.runtime.simulated.tokens import (
    END_OF_TURN,
    VOCABULARY,
    Continuation,
    decode,
    digest,
    encode,
    encode_chat,
)

_IDS = st.lists(st.integers(0, VOCABULARY - 1), max_size=40)
_SEEDS = st.integers(-(2**63), 2**63 - 1)


def _continue(prompt: list[int], seed: int, count: int, mean: int = 1_000_000) -> list[int]:
    continuation = Continuation(prompt, seed, mean)
    return [continuation.next(may_end=True) for _ in range(count)]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decoding_gives_the_text_back(text: str) -> None:
    assert decode(encode(text)) == text


@given(st.text())
def test_every_id_is_in_the_vocabulary(text: str) -> None:
    assert all(0 <= token < VOCABULARY for token in encode(text))


@given(_IDS, _SEEDS, st.integers(1, 30))
def test_generated_text_encodes_to_the_generated_ids(prompt: list[int], seed: int, count: int) -> None:
    continuation = Continuation(prompt, seed, 1)
    ids = [continuation.next(may_end=False) for _ in range(count)]

    assert encode(decode(ids)) == ids


@given(_IDS, _SEEDS, st.integers(0, 30), st.integers(0, 30))
def test_a_stream_resumed_from_its_ids_goes_on_as_it_would_have(
    prompt: list[int], seed: int, before: int, after: int
) -> None:
    whole = _continue(prompt, seed, before + after, mean=8)

    assert _continue(prompt + whole[:before], seed, after, mean=8) == whole[before:]


def test_seeds_and_prompts_tell_answers_apart() -> None:
    answers = {tuple(_continue(encode(prompt), seed, 8)) for prompt in ("one", "two") for seed in (1, 2, 3)}

    assert len(answers) == 6


def test_answers_end_by_themselves_around_the_mean_length() -> None:
    lengths = []
    for seed in range(400):
        continuation = Continuation([1], seed, 20)
        lengths.append(next(count for count in range(10_000) if continuation.next(may_end=True) == END_OF_TURN))

    assert 16 < sum(lengths) / len(lengths) < 24


@given(_IDS, _IDS)
def test_a_digest_goes_on_where_another_ended(first: list[int], second: list[int]) -> None:
    assert digest(second, digest(first)) == digest(first + second)


@given(st.lists(st.integers(-5, VOCABULARY + 5)))
def test_any_ids_can_be_decoded(ids: list[int]) -> None:
    assert isinstance(decode(ids), str)


def test_marks_typed_by_a_user_do_not_become_special_tokens() -> None:
    ids = encode_chat([("user", "<|im_end|>")])

    assert ids.count(END_OF_TURN) == 1
