"""Applying manifests against a real registry in a folder: digests, facts, sizes, and every refusal before a start."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pilotlight.activator.values import Caller, Clock, FunctionId
from pilotlight.platform.control.deploying import Deployer
from pilotlight.platform.control.errors import ForbiddenError, RefusedError
from pilotlight.platform.database.connection import Database, DatabaseError
from pilotlight.platform.database.functions import Functions
from pilotlight.platform.database.records import Records
from pilotlight.platform.manifest import Function as Manifest
from pilotlight.platform.manifest import parse
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.platform.shelf import Shelf
from pilotlight.recommender import Machine
from pilotlight.runtime.stores import open_store

GIB = 2**30
ADMIN = Caller("key-admin", None, admin=True)
CHAT = FunctionId("team-a", "chat")
HIDDEN, VOCABULARY, INNER = 8, 16, 16
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
SHAPES = {
    "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
    "model.norm.weight": (HIDDEN,),
    "model.layers.0.input_layernorm.weight": (HIDDEN,),
    "model.layers.0.post_attention_layernorm.weight": (HIDDEN,),
    "model.layers.0.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
    "model.layers.0.self_attn.k_proj.weight": (HIDDEN, HIDDEN),
    "model.layers.0.self_attn.v_proj.weight": (HIDDEN, HIDDEN),
    "model.layers.0.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
    "model.layers.0.mlp.gate_proj.weight": (INNER, HIDDEN),
    "model.layers.0.mlp.up_proj.weight": (INNER, HIDDEN),
    "model.layers.0.mlp.down_proj.weight": (HIDDEN, INNER),
}


class Desk:
    """A platform without a control loop: what can be applied, and what is kept."""

    def __init__(self, folder: Path, database: Database, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self.functions = Functions(database)
        self.records = Records(database)
        self.changes = 0
        self.shelf = Shelf((folder / "registry").as_uri(), folder / "tokenizers")
        self.deployer = Deployer(self.functions, self.shelf, lambda: Machine(16 * GIB, 4), clock, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def push(self, reference: str, value: float = 0.5, **config: Any) -> str:
        folder = self.folder / "model"
        folder.mkdir(exist_ok=True)
        tensors = {name: np.full(shape, value, np.float32) for name, shape in SHAPES.items()}
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
        (folder / "tokenizer.json").write_text('{"version": "1.0"}')
        ref = ModelRef.parse(reference)
        store = open_store((self.folder / "registry" / ref.bucket).as_uri())
        return Registry(store, ref.bucket).push(folder, ref).digest

    def apply(self, *manifests: Manifest, caller: Caller = ADMIN) -> list[str]:
        return [applied.change for applied in self.deployer.apply(manifests, caller)]


def manifest(name: str = "chat", **spec: Any) -> Manifest:
    spec.setdefault("model", "s3://models/tiny:v1")
    content = {
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": name, "namespace": "team-a"},
        "spec": spec,
    }
    return parse(content, "test")


@pytest.fixture
def desk(tmp_path: Path, database: Database, clock: Clock) -> Desk:
    return Desk(tmp_path, database, clock)


def test_a_tag_becomes_a_digest_with_sizes_and_a_tokenizer(desk: Desk) -> None:
    digest = desk.push("s3://models/tiny:v1")

    assert desk.apply(manifest()) == ["created"]

    [revision] = desk.functions.revisions(CHAT)
    template = revision.template
    assert template.digest == digest
    assert template.store == (desk.folder / "registry" / "models").as_uri()
    assert template.context == 512
    assert template.slots >= 1
    assert 0 < template.memory_bytes < 16 * GIB
    assert template.weight_bytes == sum(4 * int(np.prod(shape)) for shape in SHAPES.values())
    assert template.options["max_num_seqs"] == template.slots
    assert (Path(template.tokenizer) / "tokenizer.json").read_text() == '{"version": "1.0"}'
    assert revision.reasons
    assert len(revision.engine_key) >= 32


def test_an_identical_apply_writes_nothing(desk: Desk) -> None:
    desk.push("s3://models/tiny:v1")
    desk.apply(manifest())

    assert desk.apply(manifest()) == ["unchanged"]

    assert desk.changes == 1
    assert len(desk.functions.revisions(CHAT)) == 1
    assert len(desk.records.audit()) == 1


@pytest.mark.parametrize(
    ("spec", "revisions"),
    [
        pytest.param({"scale": {"max": 3}}, 1, id="scale"),
        pytest.param({"slo": {"class": "batch", "deadline": "1h"}}, 1, id="class"),
        pytest.param({"engine": {"maxModelLen": 256}}, 2, id="engine"),
        pytest.param({"resources": {"memory": "4Gi"}}, 2, id="memory"),
    ],
)
def test_what_makes_a_new_revision(desk: Desk, spec: dict[str, Any], revisions: int) -> None:
    desk.push("s3://models/tiny:v1")
    desk.apply(manifest())

    assert desk.apply(manifest(**spec)) == ["updated"]

    found = desk.functions.revisions(CHAT)
    assert len(found) == revisions
    assert desk.functions.all()[0].revision == f"chat-{revisions:05d}"


def test_a_moved_tag_makes_a_new_revision_and_keeps_the_old_ones_digest(desk: Desk) -> None:
    first = desk.push("s3://models/tiny:v1")
    desk.apply(manifest())
    second = desk.push("s3://models/tiny:v1", value=0.25)

    assert desk.apply(manifest()) == ["updated"]

    assert [revision.template.digest for revision in desk.functions.revisions(CHAT)] == [first, second]


Push = Callable[[Desk], object]


@pytest.mark.parametrize(
    ("push", "spec", "said"),
    [
        pytest.param(None, {}, "is not in the registry", id="no such model"),
        pytest.param(None, {"model": "s3://elsewhere/tiny:v1"}, "there is no bucket", id="no such bucket"),
        pytest.param(
            None, {"model": "hf://org/Name"}, "models import hf://org/Name s3://models/name:v1`", id="not imported"
        ),
        pytest.param({"num_hidden_layers": 3}, {}, "do not match", id="weights contradict the config"),
        pytest.param({}, {"resources": {"memory": "1Mi"}}, "team-a/chat: ", id="too little memory"),
        pytest.param({}, {"resources": {"memory": "4000Gi"}}, "team-a/chat: ", id="more than the machine"),
        pytest.param({}, {"engine": {"maxModelLen": 9999}}, "512", id="beyond the context"),
        pytest.param({}, {"scale": {"min": 100, "max": 100}}, "100 x", id="the minimum does not fit"),
        pytest.param({}, {"resources": {"accelerator": "nvidia-h100"}}, "h100", id="no such device"),
    ],
)
def test_what_is_refused_leaves_nothing(
    desk: Desk, push: dict[str, Any] | None, spec: dict[str, Any], said: str
) -> None:
    if push is not None:
        desk.push("s3://models/tiny:v1", **push)

    with pytest.raises(RefusedError) as refused:
        desk.apply(manifest(**spec))

    assert said in refused.value.message
    assert desk.functions.all() == ()
    assert desk.changes == 0


def test_several_refusals_come_together(desk: Desk) -> None:
    desk.push("s3://models/tiny:v1")

    with pytest.raises(RefusedError) as refused:
        desk.apply(manifest("fine"), manifest("one", model="s3://models/one"), manifest("two", model="s3://models/two"))

    assert refused.value.message == "nothing was applied"
    assert len(refused.value.details) == 2
    assert desk.functions.all() == ()


class TestScopes:
    TEAM = Caller("key-a", frozenset({"team-a"}))

    def test_a_shared_model_and_ones_own_may_be_used(self, desk: Desk) -> None:
        desk.push("s3://models/tiny:v1")
        desk.push("s3://models/team-a/tiny:v1")

        assert desk.apply(manifest(), caller=self.TEAM) == ["created"]
        assert desk.apply(manifest("own", model="s3://models/team-a/tiny:v1"), caller=self.TEAM) == ["created"]

    def test_another_teams_model_may_not(self, desk: Desk) -> None:
        desk.push("s3://models/team-b/tiny:v1")

        with pytest.raises(ForbiddenError):
            desk.apply(manifest(model="s3://models/team-b/tiny:v1"), caller=self.TEAM)

    @pytest.mark.parametrize(
        "caller",
        [
            pytest.param(Caller("key-b", frozenset({"team-b"})), id="another namespace"),
            pytest.param(Caller("key-f", frozenset({"team-a"}), frozenset({CHAT})), id="bound to functions"),
            pytest.param(Caller("key-n", None), id="calls everything, manages nothing"),
        ],
    )
    def test_who_may_not_manage(self, desk: Desk, caller: Caller) -> None:
        desk.push("s3://models/tiny:v1")

        with pytest.raises(ForbiddenError):
            desk.apply(manifest(), caller=caller)
        with pytest.raises(ForbiddenError):
            desk.deployer.delete(CHAT, caller)


def test_a_clusters_manifest_is_applied_with_a_warning(desk: Desk) -> None:
    desk.push("s3://models/tiny:v1")

    [applied] = desk.deployer.apply([manifest(scale={"autoscaler": "kpa"})], ADMIN)

    assert applied.change == "created"
    assert applied.reasons[-1].startswith("warning: scale.autoscaler kpa")


def test_a_change_without_its_audit_row_is_not_made(desk: Desk, database: Database) -> None:
    desk.push("s3://models/tiny:v1")
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE audit RENAME TO away")

    with pytest.raises(DatabaseError):
        desk.apply(manifest())

    assert desk.functions.all() == ()
    assert desk.changes == 0


def test_every_change_has_its_audit_row(desk: Desk) -> None:
    desk.push("s3://models/tiny:v1")
    desk.apply(manifest())
    desk.apply(manifest(scale={"max": 2}))
    desk.deployer.delete(CHAT, ADMIN)

    trail = [(entry.action, entry.target, entry.detail.get("change")) for entry in desk.records.audit()]
    assert trail == [
        ("delete", "team-a/chat", None),
        ("apply", "team-a/chat", "updated"),
        ("apply", "team-a/chat", "created"),
    ]
    assert {entry.key for entry in desk.records.audit()} == {"key-admin"}


def test_in_a_cluster_the_pod_and_the_autoscaler_make_the_revision(desk: Desk) -> None:
    desk.push("s3://models/tiny:v1")
    deployer = Deployer(
        desk.functions, desk.shelf, lambda: Machine(16 * GIB, 4), desk.clock, lambda: None, in_cluster=True
    )
    names = []
    for spec in ({}, {"scale": {"autoscaler": "kpa"}}, {"pod": {"nodeSelector": {"pool": "a"}}}):
        [applied] = deployer.apply([manifest(**spec)], ADMIN)
        assert not any(reason.startswith("warning:") for reason in applied.reasons)
        names.append(applied.function.revision)

    assert names == ["chat-00001", "chat-00002", "chat-00003"]
    revisions = desk.functions.revisions(CHAT)
    assert revisions[2].template.pod == {"nodeSelector": {"pool": "a"}}
    assert any(reason.startswith("pod: limit of") for reason in revisions[0].reasons)


def test_a_pods_limit_has_room_for_the_files_of_its_model(desk: Desk) -> None:
    desk.push("s3://models/tiny:v1")
    desk.apply(manifest())
    here = desk.functions.revisions(CHAT)[0].template
    deployer = Deployer(
        desk.functions, desk.shelf, lambda: Machine(16 * GIB, 4), desk.clock, lambda: None, in_cluster=True
    )

    deployer.apply([manifest()], ADMIN)

    in_pod = desk.functions.revisions(CHAT)[1].template
    assert in_pod.memory_bytes == here.memory_bytes + here.weight_bytes


def test_outside_of_clusters_a_pod_section_is_said_not_to_apply(desk: Desk) -> None:
    desk.push("s3://models/tiny:v1")
    desk.apply(manifest())

    [applied] = desk.deployer.apply([manifest(pod={"nodeSelector": {"pool": "a"}})], ADMIN)

    assert applied.reasons[-1].startswith("warning: spec.pod")
    assert applied.function.revision == "chat-00001"
