"""Tokenizers come in the background, once; until then the engine checks lengths."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.platform.conftest import ManualClock

from pilotlight.platform.edge.tokenizers import RETRY_SECONDS, Tokenizers
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.platform.shelf import Shelf
from pilotlight.runtime.stores.folder import FolderStore

Until = Callable[[Callable[[], bool], str], None]


class Stage:
    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.clock = clock
        self.arrived = threading.Event()
        self.kept = folder / "tokenizers"
        self._folder = folder
        self.tokenizers = Tokenizers(Shelf(f"file://{folder}", self.kept), clock, self.arrived.set)

    def push(self, name: str, tokenizer: bool = True) -> str:
        """The reference of a small model, by its digest."""
        folder = self._folder / f"source-{name}"
        folder.mkdir()
        header = json.dumps({"embed": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
        (folder / "config.json").write_text('{"architectures":["LlamaForCausalLM"],"hidden_size":4}')
        (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"abcd")
        if tokenizer:
            (folder / "tokenizer.json").write_text("{}")
        registry = Registry(FolderStore(self._folder / "models"), "models")
        registry.push(folder, ModelRef("models", name, "v1"))
        return f"s3://models/{name}@{registry.resolve(ModelRef('models', name, 'v1')).manifest.digest}"

    def asked_until_known(self, source: str, until: Until) -> Path | None:
        self.tokenizers.folder(source)
        until(lambda: not self.tokenizers.awaits(source), "an answer on the tokenizer")
        return self.tokenizers.folder(source)


@pytest.fixture
def stage(tmp_path: Path, clock: ManualClock) -> Iterator[Stage]:
    made = Stage(tmp_path, clock)
    yield made
    made.tokenizers.close()


def test_it_is_there_after_a_while_and_that_is_told(stage: Stage, until: Until) -> None:
    source = stage.push("chat")

    found = stage.asked_until_known(source, until)

    assert found is not None
    assert (found / "tokenizer.json").read_text() == "{}"
    assert stage.arrived.wait(30)


def test_a_model_without_one_is_not_asked_for_again(stage: Stage, until: Until) -> None:
    assert stage.asked_until_known(stage.push("plain", tokenizer=False), until) is None


def test_an_engine_that_is_simulated_has_none(stage: Stage) -> None:
    assert stage.tokenizers.folder("") is None
    assert not stage.tokenizers.awaits("")


@pytest.mark.parametrize("broken", ["models", "tokenizers"])
def test_what_cannot_be_had_is_tried_again_after_a_while(stage: Stage, until: Until, broken: str) -> None:
    source = stage.push("chat")
    stage.kept.mkdir()
    place, aside = stage.kept.with_name(broken), stage.kept.with_name("aside")
    place.rename(aside)
    place.write_text("no folder")
    with capture_logs() as logs:
        stage.tokenizers.folder(source)
        until(lambda: bool(logs), "a word on the first try")
    place.unlink()
    aside.rename(place)

    assert stage.tokenizers.folder(source) is None
    assert stage.tokenizers.awaits(source)
    stage.clock.time += RETRY_SECONDS
    assert stage.asked_until_known(source, until) is not None
