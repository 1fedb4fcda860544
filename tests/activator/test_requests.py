"""What is refused before anything is held, and what the engine gets of what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.activator import bodies
from pilotlight.activator.errors import RefusedError
from pilotlight.activator.requests import parse, upstream_body
from pilotlight.activator.schema import Endpoint
from pilotlight.activator.settings import Settings

SETTINGS = Settings()
HELLO = [{"role": "user", "content": "hello"}]


def _parse(endpoint: Endpoint = Endpoint.CHAT, /, **body: Any) -> Any:
    field = {Endpoint.CHAT: "messages", Endpoint.COMPLETIONS: "prompt", Endpoint.EMBEDDINGS: "input"}[endpoint]
    value = HELLO if endpoint is Endpoint.CHAT else "hello"
    return parse(endpoint, json.dumps({"model": "chat", field: value, **body}).encode(), SETTINGS)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        pytest.param(b"", "valid JSON", id="empty"),
        pytest.param(b'{"model": "chat"', "valid JSON", id="cut off"),
        pytest.param(b"[]", "JSON object", id="a list"),
        pytest.param(b'"\xff"', "UTF-8", id="not UTF-8"),
        pytest.param(b'{"a": NaN}', "NaN", id="NaN"),
        pytest.param(b'{"prompt": "a", "a": 1e999}', "out of range", id="infinite"),
        pytest.param(b'{"prompt": "\\ud800"}', "surrogate", id="half a surrogate pair"),
        pytest.param(b'{"a": ' + b"9" * 10_000 + b"}", "too long", id="a huge integer"),
        pytest.param(b"[" * 100_000, "deeper", id="deep"),
        pytest.param(b'{"a":' * 1000 + b"1" + b"}" * 1000, "deeper", id="deep objects"),
        pytest.param(b"[" + b"[]," * 1_000_001 + b"1]", "more than 1000000 values", id="very many values"),
        pytest.param(b'{"a": "' + b'\\"' * 100_000, "valid JSON", id="an endless string"),
        pytest.param(b'"' + b"[" * 100_000 + b"\\", "valid JSON", id="brackets in an endless string"),
    ],
)
def test_what_is_not_sound_json_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        parse(Endpoint.COMPLETIONS, raw, SETTINGS)
    assert refusal.value.status == 400
    assert says in refusal.value.message


def test_brackets_in_strings_are_not_nesting() -> None:
    assert _parse(messages=[{"role": "user", "content": '[{"' * 10_000}]).endpoint is Endpoint.CHAT


@pytest.mark.parametrize(
    ("endpoint", "body", "param"),
    [
        (Endpoint.CHAT, {"messages": None}, "messages"),
        (Endpoint.CHAT, {"messages": []}, "messages"),
        (Endpoint.CHAT, {"messages": "hello"}, "messages"),
        (Endpoint.CHAT, {"messages": ["hello"]}, "messages[0]"),
        (Endpoint.CHAT, {"messages": [{"content": "hello"}]}, "messages[0].role"),
        (Endpoint.CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        (Endpoint.CHAT, {"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        (Endpoint.CHAT, {"model": 5}, "model"),
        (Endpoint.CHAT, {"n": 10**9}, "n"),
        (Endpoint.CHAT, {"n": 0}, "n"),
        (Endpoint.CHAT, {"n": True}, "n"),
        (Endpoint.CHAT, {"n": "1"}, "n"),
        (Endpoint.CHAT, {"max_tokens": 0}, "max_tokens"),
        (Endpoint.CHAT, {"max_tokens": 1.5}, "max_tokens"),
        (Endpoint.CHAT, {"max_completion_tokens": -1}, "max_completion_tokens"),
        (Endpoint.CHAT, {"max_tokens": 4, "min_tokens": 5}, "min_tokens"),
        (Endpoint.CHAT, {"stream": "yes"}, "stream"),
        (Endpoint.CHAT, {"stream_options": {"include_usage": True}}, "stream_options"),
        (Endpoint.CHAT, {"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        (Endpoint.CHAT, {"stream": True, "stream_options": []}, "stream_options"),
        (Endpoint.CHAT, {"temperature": -1}, "temperature"),
        (Endpoint.CHAT, {"temperature": "hot"}, "temperature"),
        (Endpoint.CHAT, {"top_p": 1.1}, "top_p"),
        (Endpoint.CHAT, {"stop": [1]}, "stop"),
        (Endpoint.CHAT, {"seed": 2**70}, "seed"),
        (Endpoint.CHAT, {"chat_template": "{{ x }}"}, "chat_template"),
        (Endpoint.COMPLETIONS, {"prompt": None}, "prompt"),
        (Endpoint.COMPLETIONS, {"prompt": ""}, "prompt"),
        (Endpoint.COMPLETIONS, {"prompt": []}, "prompt"),
        (Endpoint.COMPLETIONS, {"prompt": [1, "a"]}, "prompt"),
        (Endpoint.COMPLETIONS, {"prompt": [-1]}, "prompt"),
        (Endpoint.COMPLETIONS, {"prompt": [True]}, "prompt"),
        (Endpoint.COMPLETIONS, {"prompt": ["a"] * 129}, "prompt"),
        (Endpoint.COMPLETIONS, {"prompt": ["a", "b"], "n": 100}, "n"),
        (Endpoint.COMPLETIONS, {"prompt_embeds": "AAAA"}, "prompt_embeds"),
        (Endpoint.COMPLETIONS, {"max_tokens": 0}, "max_tokens"),
        (Endpoint.EMBEDDINGS, {"input": None}, "input"),
        (Endpoint.EMBEDDINGS, {"input": {"a": 1}}, "input"),
        (Endpoint.EMBEDDINGS, {"input": ["a"] * 2049}, "input"),
        (Endpoint.EMBEDDINGS, {"dimensions": 0}, "dimensions"),
    ],
)
def test_a_wrong_field_is_named(endpoint: Endpoint, body: dict[str, Any], param: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        _parse(endpoint, **body)
    assert (refusal.value.status, refusal.value.param) == (400, param)
    assert len(refusal.value.message) < 300


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (Endpoint.CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}),
        (Endpoint.CHAT, {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]}),
        (Endpoint.CHAT, {"n": 128, "temperature": 0, "stop": "x", "max_tokens": None, "stream": None}),
        (Endpoint.CHAT, {"stream_options": None, "frequency_penalty": -2}),
        (Endpoint.COMPLETIONS, {"prompt": [1, 2, 3]}),
        (Endpoint.COMPLETIONS, {"prompt": [[1], [2]], "n": 64}),
        (Endpoint.COMPLETIONS, {"echo": True, "max_tokens": 0}),
        (Endpoint.EMBEDDINGS, {"input": ["a", "b"], "dimensions": 8, "encoding_format": "base64"}),
        (Endpoint.EMBEDDINGS, {"input": None, "messages": HELLO}),
    ],
)
def test_what_the_engine_takes_passes(endpoint: Endpoint, body: dict[str, Any]) -> None:
    parsed = _parse(endpoint, **body)
    sent = json.loads(upstream_body("served", parsed.rest))
    assert sent["model"] == "served"
    for field, value in body.items():
        if field != "stream_options":
            assert sent[field] == value


def test_an_echoed_prompt_is_not_asked_for_ids() -> None:
    parsed = _parse(Endpoint.COMPLETIONS, stream=True, echo=True)
    assert "return_token_ids" not in json.loads(upstream_body("m", parsed.rest))


def test_without_streaming_nothing_is_added() -> None:
    parsed = _parse(priority=1, kv_transfer_params={"a": 1})
    assert json.loads(upstream_body("m", parsed.rest)) == {"model": "m", "messages": HELLO}


@pytest.mark.parametrize(("body", "single"), [({}, True), ({"n": 2}, False), ({"n": None}, True)])
def test_one_completion_is_told_from_several(body: dict[str, Any], single: bool) -> None:
    assert _parse(**body).single is single


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), _JSON, max_size=6))
def test_a_body_comes_out_as_it_went_in(value: dict[str, object]) -> None:
    try:
        encoded = bodies.encode(value)
    except RefusedError:
        assert any(0xD800 <= ord(letter) < 0xE000 for letter in json.dumps(value, ensure_ascii=False))
        return
    assert bodies.decode(encoded, 64, 1_000_000) == value


def _outcome(endpoint: Endpoint, raw: bytes) -> int | None:
    """The status of a refusal; None: taken, and what the engine would get is JSON."""
    try:
        parsed = parse(endpoint, raw, SETTINGS)
    except RefusedError as refusal:
        return refusal.status
    json.loads(upstream_body("m", parsed.rest))
    return None


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    for endpoint in Endpoint:
        assert _outcome(endpoint, raw) in {None, 400}


@given(st.dictionaries(st.sampled_from(["model", "messages", "prompt", "input", "n", "stream", "stop", "seed"]), _JSON))
def test_any_values_are_taken_or_refused(body: dict[str, object]) -> None:
    raw = json.dumps(body).encode()
    for endpoint in Endpoint:
        assert _outcome(endpoint, raw) in {None, 400}
