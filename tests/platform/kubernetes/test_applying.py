"""From Function objects to revisions, against a real registry in a folder and a real database."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pilotlight.activator.values import Caller, Clock, FunctionId
from pilotlight.platform.control.deploying import Deployer
from pilotlight.platform.control.errors import (
    ForbiddenError,
    MissingError,
    PlatformError,
    RefusedError,
    UnavailableError,
)
from pilotlight.platform.database.connection import Database, DatabaseError
from pilotlight.platform.database.functions import Functions
from pilotlight.platform.kubernetes.applying import RETRY_MOST_SECONDS, RETRY_SECONDS, Applier
from pilotlight.platform.kubernetes.kinds import Key
from pilotlight.platform.kubernetes.status import GOOD, PENDING
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.platform.shelf import Shelf
from pilotlight.recommender import Machine
from pilotlight.runtime.stores import open_store

GIB = 2**30
CHAT, CODE = Key("team-a", "chat"), Key("team-a", "code")
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 16,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
SHAPES = {
    "model.embed_tokens.weight": (16, 8),
    "model.norm.weight": (8,),
    "model.layers.0.input_layernorm.weight": (8,),
    "model.layers.0.post_attention_layernorm.weight": (8,),
    **{f"model.layers.0.self_attn.{name}_proj.weight": (8, 8) for name in "qkvo"},
    "model.layers.0.mlp.gate_proj.weight": (16, 8),
    "model.layers.0.mlp.up_proj.weight": (16, 8),
    "model.layers.0.mlp.down_proj.weight": (8, 16),
}


class Failing(Deployer):
    """One that raises what it is told to."""

    error: Exception | None = None

    def apply(self, manifests: Any, caller: Caller) -> Any:
        if self.error is not None:
            raise self.error
        return super().apply(manifests, caller)


class Desk:
    """What there is of objects, models and functions."""

    def __init__(self, folder: Path, database: Database, clock: Any) -> None:
        self.folder, self.clock = folder, clock
        self.functions = Functions(database)
        self.shelf = Shelf((folder / "registry").as_uri(), folder / "tokenizers")
        self.deployer = Failing(self.functions, self.shelf, lambda: Machine(16 * GIB, 4), clock, lambda: None)
        self.objects: dict[Key, dict[str, Any]] = {}
        self.applier = self.restarted()

    def restarted(self) -> Applier:
        """As the next leader begins: with what the database knows."""
        self.applier = Applier(self.deployer, self.functions, self.clock)
        return self.applier

    def put(self, key: Key = CHAT, generation: int = 1, uid: str = "u", **spec: Any) -> None:
        metadata = {"namespace": key.namespace, "name": key.name, "uid": uid, "generation": generation}
        content = {"apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function", "metadata": metadata}
        self.objects[key] = {**content, "spec": {"model": "s3://models/tiny:v1", **spec}}

    def push(self, value: float = 0.5) -> str:
        folder = self.folder / "model"
        folder.mkdir(exist_ok=True)
        save_file(
            {name: np.full(shape, value, np.float32) for name, shape in SHAPES.items()}, folder / "model.safetensors"
        )
        (folder / "config.json").write_text(json.dumps(CONFIG))
        (folder / "tokenizer.json").write_text('{"version": "1.0"}')
        ref = ModelRef.parse("s3://models/tiny:v1")
        store = open_store((self.folder / "registry" / ref.bucket).as_uri())
        return Registry(store, ref.bucket).push(folder, ref).digest

    def lose_models(self) -> None:
        shutil.rmtree(self.folder / "registry")

    def reconcile(self) -> bool:
        return self.applier.reconcile(self.objects)

    def verdict(self, key: Key = CHAT) -> tuple[tuple[str, str], tuple[str, str]]:
        """Status and reason of ModelVerified and Sized."""
        verified, sized = self.applier.outcomes[key].judgements
        return (verified.status, verified.reason), (sized.status, sized.reason)


NO_MODEL = (("False", "ModelNotFound"), (PENDING.status, PENDING.reason))
DONE = ((GOOD.status, GOOD.reason), (GOOD.status, GOOD.reason))


@pytest.fixture
def desk(tmp_path: Path, database: Database, clock: Clock) -> Desk:
    return Desk(tmp_path, database, clock)


def test_a_new_object_becomes_a_function_and_is_looked_at_once(desk: Desk) -> None:
    digest = desk.push()
    desk.put()

    assert desk.reconcile()

    [revision] = desk.functions.revisions(FunctionId(*CHAT))
    assert revision.template.digest == digest
    assert desk.verdict() == DONE
    assert desk.applier.next_try() is None
    desk.lose_models()
    assert not desk.reconcile()
    assert desk.verdict() == DONE


def test_after_a_restart_an_unchanged_object_is_not_resolved_again(desk: Desk) -> None:
    desk.push()
    desk.put()
    desk.reconcile()
    desk.lose_models()

    desk.restarted()

    assert not desk.reconcile()
    assert desk.verdict() == DONE
    assert len(desk.functions.revisions(FunctionId(*CHAT))) == 1


def test_after_a_restart_one_that_was_changed_meanwhile_is(desk: Desk) -> None:
    desk.push()
    desk.put()
    desk.reconcile()

    desk.restarted()
    desk.put(generation=2, scale={"max": 5})

    assert desk.reconcile()
    found = desk.functions.get(FunctionId(*CHAT))
    assert found is not None
    assert found.policy.maximum == 5


def test_words_of_others_about_an_object_change_nothing(desk: Desk) -> None:
    desk.push()
    desk.put()
    desk.reconcile()
    desk.objects[CHAT]["metadata"] |= {"resourceVersion": "99", "finalizers": ["x"]}
    desk.objects[CHAT]["status"] = {"replicas": 1}

    assert not desk.reconcile()
    desk.restarted()
    assert not desk.reconcile()


def test_a_refused_object_is_tried_again_ever_more_rarely_until_what_it_lacks_has_come(desk: Desk) -> None:
    desk.put()
    assert desk.reconcile()
    assert desk.verdict() == NO_MODEL
    waits = []
    for _ in range(8):
        due = desk.applier.next_try()
        assert due is not None
        waits.append(due - desk.clock.monotonic())
        desk.clock.time = due - 0.001
        assert not desk.reconcile(), "it was tried before its time"
        desk.clock.time = due
        assert desk.reconcile()

    assert waits[:3] == pytest.approx([RETRY_SECONDS, 2 * RETRY_SECONDS, 4 * RETRY_SECONDS])
    assert waits[-1] == pytest.approx(RETRY_MOST_SECONDS)
    desk.push()
    desk.clock.time += RETRY_MOST_SECONDS
    assert desk.reconcile()
    assert desk.verdict() == DONE


@pytest.mark.parametrize("change", [{"generation": 2}, {"uid": "another"}], ids=["generation", "object"])
def test_a_new_generation_or_object_is_tried_at_once_and_with_its_own_patience(
    desk: Desk, change: dict[str, Any]
) -> None:
    desk.put()
    for _ in range(3):
        desk.reconcile()
        desk.clock.time += RETRY_MOST_SECONDS

    desk.put(**change)
    desk.clock.time -= RETRY_MOST_SECONDS

    assert desk.reconcile()
    assert desk.applier.next_try() == desk.clock.monotonic() + RETRY_SECONDS


@pytest.mark.parametrize("ends", [True, False], ids=["is to go", "is gone"])
def test_an_object_that_is_deleted_deletes_its_function(desk: Desk, ends: bool) -> None:
    desk.push()
    desk.put()
    desk.put(CODE)
    desk.reconcile()

    if ends:
        desk.objects[CHAT]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    else:
        del desk.objects[CHAT]

    assert desk.reconcile()
    assert [str(found.id) for found in desk.functions.all()] == ["team-a/code"]
    assert not desk.reconcile()
    assert (CHAT in desk.applier.outcomes) is ends


def test_one_that_is_refused_does_not_keep_the_others_from_it(desk: Desk) -> None:
    desk.push()
    desk.put(model="s3://models/none:v1")
    desk.put(CODE)

    desk.reconcile()

    assert (desk.verdict(CHAT), desk.verdict(CODE)) == (NO_MODEL, DONE)


def test_a_manifest_that_the_schema_let_through_says_each_mistake(desk: Desk) -> None:
    desk.put(scale={"min": 3, "max": 1})

    desk.reconcile()

    [verified, sized] = desk.applier.outcomes[CHAT].judgements
    assert (verified.status, verified.reason, sized) == ("False", "InvalidManifest", PENDING)
    assert "scale" in verified.message


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ForbiddenError("no rights"), "ModelForbidden"),
        (UnavailableError("no answer"), "StoreUnavailable"),
        (MissingError("no such model"), "ModelNotFound"),
    ],
)
def test_a_model_that_cannot_be_had_says_why(desk: Desk, error: PlatformError, reason: str) -> None:
    desk.put()
    desk.deployer.error = error

    desk.reconcile()

    verified, sized = desk.applier.outcomes[CHAT].judgements
    assert (verified.status, verified.reason, verified.message) == ("False", reason, error.message)
    assert sized == PENDING


def test_a_size_that_fits_nowhere_is_a_refusal_of_a_model_that_is_there(desk: Desk) -> None:
    desk.put()
    desk.deployer.error = RefusedError("it needs more than a node has", ["first", "second"])

    desk.reconcile()

    assert desk.verdict() == (DONE[0], ("False", "Refused"))
    assert desk.applier.outcomes[CHAT].sized.message == "it needs more than a node has; first; second"


def test_what_nobody_expected_is_unknown_rather_than_refused(desk: Desk) -> None:
    desk.put()
    desk.deployer.error = DatabaseError("writing", "connection refused")

    desk.reconcile()

    verified, _ = desk.applier.outcomes[CHAT].judgements
    assert (verified.status, verified.reason) == ("Unknown", "Error")
    assert "connection refused" in verified.message
    assert not desk.applier.outcomes[CHAT].done
