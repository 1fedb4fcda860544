"""The activator's limits and intervals, built once at the edge and passed explicitly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Every limit with its unit, and why it is what it is."""

    body_bytes: int = 16 * 2**20
    """Largest request body, bytes: a 128k-token prompt is below 1 MiB, base64 images reach some MiB."""

    held_bytes: int = 1 * 2**30
    """Bodies in memory of all requests together, bytes: what is held must not exhaust the host."""

    body_seconds: float = 30.0
    """A body must have arrived in so many seconds: a slow client may not occupy a place for free."""

    linger_seconds: float = 2.0
    """After a refusal the rest of a body is read and dropped for so long, so that the client can read the answer."""

    json_depth: int = 64
    """Deepest nesting of a body: tool schemas reach about 15, the engine's own parser stops near 200."""

    json_items: int = 1_000_000
    """Most values in a body: bounds parsing to about a second and 100 MiB; OpenAI takes 300,000 tokens a request."""

    choices: int = 128
    """Most completions of one request (`n` times prompts), as in OpenAI's schema."""

    inputs: int = 2048
    """Most inputs of one embeddings request, as in OpenAI's schema."""

    queue_total: int = 50_000
    """Held and queued requests over all functions: about 1.2 GiB at 24 KiB each."""

    heartbeat_first_seconds: float = 0.75
    """A held stream hears from us after so long; the contract says within 1 s, the tick takes the rest."""

    heartbeat_every_seconds: float = 4.5
    """And again after so long; the contract says at least every 5 s, load balancers cut at 30 to 60 s of silence."""

    tick_seconds: float = 0.2
    """One shared timer looks at heartbeats, deadlines and suspects: no timer per request."""

    checkpoint_seconds: float = 1.0
    """Running requests' counts go to the meter so often: what a crash may lose."""

    wake_repeat_seconds: float = 5.0
    """A host that missed a wake is told again so often while requests are held."""

    attempts: int = 3
    """Engines that may be given one request before their first byte; a request that kills engines must end."""

    connect_seconds: float = 2.0
    """Opening a connection to a replica: it is on loopback or in the same cluster."""

    silence_seconds: float = 600.0
    """Longest silence of an engine's stream, before its first byte or after: the longest prefill and its wait."""

    answer_seconds: float = 3600.0
    """The same without streaming, where all is silence until the answer is made: 8,192 tokens at 2.5 a second."""

    stall_seconds: float = 120.0
    """A client that takes nothing of its stream for so long is counted as gone: it holds a slot."""

    event_bytes: int = 16 * 2**20
    """Largest single event of an engine's stream, bytes: prompt ids of a long context come in one."""

    answer_bytes: int = 256 * 2**20
    """Largest answer without streaming, bytes: 2,048 embeddings of 4,096 numbers are about 180 MiB as text."""

    keepalive_seconds: float = 2.0
    """Idle upstream connections are dropped before the engine's server drops them at 5 s: no lost race."""

    suspect_seconds: float = 0.5
    """A replica that failed is left alone for so long, doubled with every further failure ..."""

    suspect_most_seconds: float = 8.0
    """... up to this, unless the host reports it gone before."""

    drain_retry_seconds: float = 5.0
    """`Retry-After` while draining: another activator, or this one restarted, answers by then."""

    overload_retry_seconds: float = 2.0
    """Least `Retry-After` of a full queue: what is learned of service times may still be nothing."""

    tokenizer_folders: int = 8
    """Tokenizers kept in memory, least recently used goes first: 10 to 60 MiB each."""

    tokenizer_threads: int = 1
    """Length checks run beside the event loop on so many threads; short prompts never reach them."""
