"""Parameters by kind, counted from a configuration, equal those of transformers' model of it."""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.recommender import BadConfig, RecommenderError, config_facts, count_parameters, read_facts
from pilotlight.recommender._config import text_config
from pilotlight.recommender._defaults import NESTED
from pilotlight.recommender.kinds import kind_of, share_of
from pilotlight.recommender.parameters import estimated, rank_parameters

Config = dict[str, Any]


# As published: config.json's own dimensions, and what it says beside them that changes a count.
PUBLISHED: dict[str, Config] = json.loads(Path(__file__).with_name("published.json").read_text())
_POOLERS = {"bert", "roberta", "xlm-roberta", "distilbert", "modernbert", "nomic_bert"}


def _reference(config: Config) -> Counter[str]:
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText

    made = AutoConfig.for_model(**{key: value for key, value in config.items() if key != "architectures"})
    auto = AutoModel if config["model_type"] in _POOLERS else AutoModelForCausalLM
    if "vision_config" in config:
        auto = AutoModelForImageTextToText
    with torch.device("meta"):
        model = auto.from_config(made)
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[kind_of(name)] += parameter.numel()
    return counts


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_kind_has_as_many_parameters_as_in_transformers(name: str) -> None:
    assert count_parameters(PUBLISHED[name]) == dict(_reference(PUBLISHED[name]))
    assert not estimated(PUBLISHED[name])


@pytest.mark.parametrize(
    ("name", "billions", "active"),
    [
        # As the models' cards say.
        pytest.param("Llama-3.1-8B", 8.03, 8.03, id="Llama-3.1-8B"),
        pytest.param("Mixtral-8x7B", 46.7, 12.9, id="Mixtral-8x7B"),
        pytest.param("Qwen3-30B-A3B", 30.5, 3.3, id="Qwen3-30B-A3B"),
        pytest.param("DeepSeek-V3", 671.0, 37.5, id="DeepSeek-V3"),
        pytest.param("gpt-oss-20b", 20.9, 3.6, id="gpt-oss-20b"),
    ],
)
def test_totals_and_active_parameters_are_those_of_the_models_cards(name: str, billions: float, active: float) -> None:
    facts = config_facts(PUBLISHED[name])

    assert facts.parameters / 1e9 == pytest.approx(billions, rel=0.005)
    assert facts.active_parameters / 1e9 == pytest.approx(active, rel=0.2)


@pytest.mark.parametrize("kind", NESTED)
def test_what_nested_configurations_leave_out_is_what_transformers_takes(kind: str) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    theirs = CONFIG_MAPPING[kind]().to_dict()

    assert {key: theirs[key] for key in NESTED[kind]} == dict(NESTED[kind])


def test_a_nested_configuration_wins_over_the_defaults() -> None:
    assert text_config(PUBLISHED["Gemma-3-4B"])["hidden_size"] == 2560
    assert text_config(PUBLISHED["Gemma-3-4B"])["head_dim"] == 256


def test_an_embedder_made_of_a_decoders_body_has_no_output_matrix() -> None:
    config = PUBLISHED["Qwen3-8B"]

    assert "lm_head" in count_parameters(config | {"architectures": ["Qwen3ForCausalLM"]})
    assert "lm_head" not in count_parameters(config | {"architectures": ["Qwen3Model"]})


def test_an_unknown_family_is_bounded_and_says_so() -> None:
    known, novel = PUBLISHED["Llama-3.1-8B"], PUBLISHED["Llama-3.1-8B"] | {"model_type": "novel"}

    facts = config_facts(novel)

    assert estimated(novel)
    assert facts.parameters == sum(count_parameters(known).values())
    assert any("between 6,151,213,056 (two feed-forward matrices) and 8,030,261,248" in why for why in facts.estimates)


def test_an_unknown_tower_is_bounded_and_says_so() -> None:
    config = {**PUBLISHED["Gemma-3-4B"], "model_type": "novel_vl", "audio_config": {"hidden_size": 1024}}

    counts = count_parameters(config)

    assert estimated(config)
    assert counts["vision"] >= count_parameters(PUBLISHED["Gemma-3-4B"])["vision"]
    assert counts["audio"] > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"hidden_size": None}, "hidden_size is None", id="no hidden size"),
        pytest.param({"num_hidden_layers": 0}, "num_hidden_layers is 0", id="no layers"),
        pytest.param({"vocab_size": True}, "vocab_size is True", id="a truth value is no number"),
        pytest.param({"num_key_value_heads": 5}, "32 attention heads cannot share 5 key-value heads", id="KV heads"),
        pytest.param({"num_key_value_heads": 64}, "cannot share 64", id="more KV heads than heads"),
        pytest.param({"hidden_size": 4100}, "is 32, which does not divide hidden_size 4100", id="no head size"),
    ],
)
def test_configurations_that_no_model_can_have_are_refused(changes: Config, said: str) -> None:
    with pytest.raises(BadConfig, match=said) as refusal:
        count_parameters(PUBLISHED["Llama-3.1-8B"] | changes)

    assert refusal.value.field in str(refusal.value)


anything = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 10**10), st.floats(), st.text(max_size=5),
    st.lists(st.integers() | st.text(max_size=5), max_size=4), st.dictionaries(st.text(max_size=5), st.integers()),
)  # fmt: skip


@given(st.sampled_from(sorted(PUBLISHED)), st.data())
def test_whatever_a_configuration_says_it_is_read_or_refused(name: str, data: st.DataObject) -> None:
    config = dict(PUBLISHED[name])
    keys = [*config, "layer_types", "quantization_config", "rope_scaling", "max_position_embeddings", "architectures"]
    for key in data.draw(st.lists(st.sampled_from(keys), max_size=4)):
        config[key] = data.draw(anything)
    for read in (config_facts, partial(read_facts, tensors={})):
        try:
            facts = read(config)
        except RecommenderError:
            continue
        assert 0 <= facts.active_parameters <= facts.parameters
        assert facts.context >= 1


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("LLaVA-1.5-7B", {"model_type": {"a": 1}}, id="a type that is no name"),
        pytest.param("LFM2-1.2B", {"block_ffn_dim_multiplier": float("nan")}, id="a factor that is no number"),
    ],
)
def test_what_makes_no_sense_is_left_out(name: str, changes: Config) -> None:
    assert config_facts(PUBLISHED[name] | {"max_position_embeddings": 2048} | changes).parameters > 0


def test_a_negative_number_of_layers_is_refused() -> None:
    with pytest.raises(RecommenderError, match="num_hidden_layers is -1"):
        read_facts(PUBLISHED["Llama-3.1-8B"] | {"num_hidden_layers": -1}, {})


def test_absurdly_many_layers_cost_no_time() -> None:
    with pytest.raises(BadConfig, match="more than 10000"):
        count_parameters(PUBLISHED["Llama-3.1-8B"] | {"num_hidden_layers": 2**31})


@pytest.mark.parametrize("name", PUBLISHED)
def test_ranks_hold_everything_between_them_and_one_rank_holds_all(name: str) -> None:
    config = PUBLISHED[name]
    total = sum(count_parameters(config).values())

    assert rank_parameters(config, 1) == total
    held = [rank_parameters(config, ranks) for ranks in (1, 2, 4, 8)]
    assert held == sorted(held, reverse=True)
    assert all(ranks * each >= total for ranks, each in zip((1, 2, 4, 8), held, strict=True))


def test_few_key_value_heads_are_repeated_on_every_rank() -> None:
    config = PUBLISHED["Qwen2.5-0.5B"]  # two key-value heads
    keys = 24 * 2 * (128 * 896 + 128)
    norms = 24 * 2 * 896 + 896
    copied = norms + keys // 2  # one of the two heads on each of four ranks

    split = sum(count_parameters(config).values()) - norms - keys

    assert rank_parameters(config, 4) == pytest.approx(split / 4 + copied, abs=200)


@pytest.mark.parametrize(
    ("name", "kind", "share"),
    [
        ("model.layers.3.self_attn.k_proj.weight", "attention", "heads"),
        ("model.layers.3.self_attn.o_proj.weight", "attention", "split"),
        ("model.layers.3.self_attn.kv_a_proj_with_mqa.weight", "attention", "copy"),
        ("model.layers.3.mlp.experts.7.down_proj.weight", "experts", "split"),
        ("model.layers.3.mlp.shared_experts.down_proj.weight", "mlp", "split"),
        ("model.layers.3.block_sparse_moe.gate.weight", "router", "copy"),
        ("model.layers.3.mlp.gate_proj.weight", "mlp", "split"),
        ("model.layers.3.linear_attn.norm.weight", "state_space", "split"),
        ("model.layers.3.self_attn.q_norm.weight", "norm", "copy"),
        ("encoder.layer.0.attention.output.dense.weight", "attention", "split"),
        ("encoder.layer.0.output.dense.weight", "mlp", "split"),
        ("vision_tower.vision_model.encoder.layers.0.layer_norm1.weight", "vision", "split"),
        ("lm_head.weight", "lm_head", "split"),
        ("something.else", "other", "copy"),
    ],
)
def test_tensors_are_told_by_their_names(name: str, kind: str, share: str) -> None:
    assert (kind_of(name), share_of(name)) == (kind, share)
