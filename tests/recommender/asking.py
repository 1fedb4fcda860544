"""Models, loads and measurements that recommendations are asked for with."""

from collections.abc import Mapping
from functools import cache

from pilotlight.recommender import (
    Accelerator,
    Lengths,
    ModelFacts,
    Observation,
    Performance,
    Recommendation,
    Slo,
    Workload,
    builtin,
    config_facts,
    fitted,
    recommend,
    setup_for,
)
from pilotlight.recommender.shape import ModelShape, known_configs, shape_of

GIB = 2**30
H100 = builtin().find("h100")
CHAT = Workload(
    Lengths(((0.0, 10), (0.5, 500), (0.9, 2000), (0.99, 6000), (1.0, 9000))),
    Lengths(((0.0, 1), (0.5, 200), (0.9, 500), (0.99, 900), (1.0, 4000))),
    rate=50.0,
)
HOST = Accelerator("cpu", 16 * GIB, 30e9, {"fp32": 180e9}, "measured", kind="cpu")


def llama(**changes: object) -> ModelFacts:
    return config_facts(
        {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            **changes,
        }
    )


LLAMA = llama()
LARGE = llama(hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64)
SMALL = llama(
    hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3
)
EMBEDDER = config_facts(
    {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": 30522,
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
)


def measured(slower: float = 1.0, workload: Workload = CHAT) -> Performance:
    """Latencies that rise by steady steps."""
    seen = [
        Observation(batch, workload.prompt.mean, slower * (0.008 + 1e-4 * batch), slower * (0.05 + 2e-3 * batch))
        for batch in (1, 8, 32, 128)
    ]
    return fitted(seen, setup_for(LLAMA, H100, workload))


@cache
def known() -> Recommendation:
    return recommend(LLAMA, H100, measured(), Slo(ttft=5.0, itl=0.02), CHAT)


@cache
def known_shapes() -> Mapping[str, ModelShape]:
    """Of the models whose measurements are public, as their weights are with 16 bits each."""
    return {name: shape_of(config_facts(config)) for name, config in known_configs().items()}
