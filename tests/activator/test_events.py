"""An engine's event stream, whatever its reads' boundaries, and vLLM's shapes of chunks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.activator import events
from pilotlight.activator.inhand import InHand, Several
from pilotlight.activator.requests import Wants, parse
from pilotlight.activator.schema import Endpoint
from pilotlight.activator.settings import Settings
from pilotlight.activator.state import RevisionState
from pilotlight.activator.values import FunctionId, Route


def _request(*, choices: int = 1, prompts: int = 1) -> InHand:
    route = Route(FunctionId("a", "b"), "r", "generate", "m", context=10, tokenizer=None)
    request = InHand(
        RevisionState(route, 0.0),
        id="req-1",
        key="k",
        asked=parse(Endpoint.COMPLETIONS, b'{"prompt": "hello", "stream": true}', Settings()),
        progress=False,
        arrived=0.0,
        admitted_at=0.0,
        hold_seconds=1.0,
        beat_at=1.0,
    )
    single = choices * prompts == 1
    request.token_ids = events.new_token_ids() if single else None
    request.several = None if single else Several(choices)
    return request


def _chat(
    ids: list[int] | None, *, index: int = 0, usage: dict[str, Any] | None = None, **delta: object
) -> events.Chunk:
    choice: dict[str, object] = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
    if ids is not None:
        choice["token_ids"] = ids
    return {"id": "c", "choices": [choice], **({"usage": usage} if usage else {})}


@given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda event: b"\n" not in event)), st.data())
def test_events_do_not_depend_on_how_reads_are_cut(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(event + b"\n\n" for event in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    splitter = events.Splitter(1000)
    got: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += splitter.feed(stream[start:end])
    assert got == sent


def test_an_event_without_end_is_refused() -> None:
    splitter = events.Splitter(100)
    assert splitter.feed(b"x" * 100) == []
    with pytest.raises(events.EventTooLargeError):
        splitter.feed(b"x")


def test_ids_are_counted_as_they_pass_and_kept() -> None:
    request = _request()
    events.count(request, {"choices": [], "prompt_token_ids": [1, 2, 3]})
    events.count(request, _chat([7, 8], content="a", usage={"prompt_tokens": 3, "completion_tokens": 2}))
    events.count(request, _chat([9], content="b", usage={"prompt_tokens": 3, "completion_tokens": 3}))
    assert (request.prompt_tokens, request.completion_tokens) == (3, 3)
    assert request.token_ids is not None
    assert request.token_ids.tolist() == [7, 8, 9]


def test_running_usage_counts_where_an_engine_gives_no_ids() -> None:
    request = _request()
    events.count(request, _chat(None, content="a", usage={"prompt_tokens": 3, "completion_tokens": 2}))
    events.count(request, _chat(None, content="b", usage={"prompt_tokens": 3, "completion_tokens": 5}))
    assert request.completion_tokens == 5


def test_running_usage_of_one_of_several_choices_is_not_the_sum() -> None:
    request = _request(choices=2)
    events.count(request, _chat([1], index=0, usage={"prompt_tokens": 3, "completion_tokens": 1}))
    events.count(request, _chat([2], index=1, usage={"prompt_tokens": 3, "completion_tokens": 1}))
    assert request.completion_tokens == 2
    events.count(request, {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    assert request.completion_tokens == 2


def test_several_choices_are_counted_by_running_usage_where_an_engine_gives_no_ids() -> None:
    """An engine gives none with an echoed prompt, and none of hidden reasoning; who leaves then still pays."""
    request = _request(choices=2)
    for index, made in [(0, 1), (1, 1), (0, 4), (1, 2)]:
        events.count(request, _chat(None, index=index, usage={"prompt_tokens": 3, "completion_tokens": made}))
    assert (request.prompt_tokens, request.completion_tokens) == (3, 6)


def test_several_prompts_are_counted_each_once() -> None:
    request = _request(choices=2, prompts=3)
    for index, prompt in [(0, 5), (1, 5), (2, 7), (5, 11), (4, 11)]:
        events.count(request, _chat([1], index=index, usage={"prompt_tokens": prompt, "completion_tokens": 1}))
    assert (request.prompt_tokens, request.completion_tokens) == (23, 5)


def test_the_final_usage_is_authoritative() -> None:
    request = _request()
    events.count(request, _chat([1, 2, 3], content="a"))
    final = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}
    events.count(request, {"choices": [], "usage": final})
    assert (request.prompt_tokens, request.completion_tokens, request.cached_tokens) == (9, 4, 8)


USAGE = {"prompt_tokens": 1, "completion_tokens": 1}


@pytest.mark.parametrize(
    ("chunk", "wants", "left"),
    [
        pytest.param(_chat([1], content="a", usage=USAGE), Wants(), _chat(None, content="a"), id="nothing asked"),
        pytest.param(_chat([1], content="a", usage=USAGE), Wants(token_ids=True), _chat([1], content="a"), id="ids"),
        pytest.param(
            _chat([1], content="a", usage=USAGE),
            Wants(usage=True, continuous_usage=True),
            _chat(None, content="a", usage=USAGE),
            id="running usage",
        ),
        pytest.param(_chat([1], usage=USAGE), Wants(), None, id="a chunk only for ids"),
        pytest.param(_chat([1], usage=USAGE), Wants(token_ids=True), _chat([1]), id="a chunk for ids that were asked"),
        pytest.param({"choices": [], "usage": USAGE}, Wants(), None, id="final usage, not asked"),
        pytest.param(
            {"choices": [], "usage": USAGE}, Wants(usage=True), {"choices": [], "usage": USAGE}, id="final usage"
        ),
        pytest.param(
            {**_chat(None, role="assistant", content=""), "prompt_token_ids": [1]},
            Wants(),
            _chat(None, role="assistant", content=""),
            id="prompt ids",
        ),
    ],
)
def test_only_what_was_asked_for_is_left(chunk: events.Chunk, wants: Wants, left: events.Chunk | None) -> None:
    chunk = json.loads(json.dumps(chunk))
    changed = events.strip(chunk, wants)
    assert (None if changed is None else chunk) == left
    if changed is False:
        assert chunk == left


def test_what_is_no_json_passes_as_it_is() -> None:
    assert events.parse(b": comment") is None
    assert events.parse(b"data: [DONE]") is None
    assert events.parse(b"data: {broken") is None


def test_text_survives_being_rendered_again() -> None:
    text = 'é 漢 \U0001f600 \u2028 \\ " \n'
    assert json.loads(events.render({"choices": [], "text": text}).removeprefix(b"data: "))["text"] == text
    assert b"\n" not in events.render({"choices": [], "text": text})


@given(
    st.dictionaries(
        st.sampled_from(["choices", "usage", "prompt_token_ids", "error"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["index", "token_ids", "delta", "completion_tokens", "prompt_tokens_details"]),
                    inner,
                )
            ),
        ),
    )
)
def test_an_engine_that_says_nonsense_does_no_harm(chunk: dict[str, Any]) -> None:
    request = _request()
    events.count(request, chunk)
    assert request.prompt_tokens >= 0
    events.strip(chunk, Wants())
    assert "usage" not in chunk or chunk.get("choices") == []


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}', (3, 4)),
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":4},"prompt_logprobs":null}', (3, 4)),
        (b'{"choices": [{"text": "\\"usage\\": {"}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}', (3, 4)),
        (b'{"data": [' + b"0.1," * 1_000_000 + b'1], "usage": {"prompt_tokens": 3}}', (3, 0)),
        (b'{"usage": null}', (0, 0)),
        (b'{"usage": {"prompt_tok', (0, 0)),
        (b"{}", (0, 0)),
        (b"", (0, 0)),
    ],
)
def test_the_usage_of_an_answer_in_one_piece(body: bytes, tokens: tuple[int, int]) -> None:
    request = _request()
    events.count_answer(request, body)
    assert (request.prompt_tokens, request.completion_tokens) == tokens
