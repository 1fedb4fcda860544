"""Reading traces: what is in them, in order, the same each time; and bad files refused with their line and field."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pilotlight.activator.values import FunctionId, Usage
from pilotlight.platform.api.views import usage_row_out
from pilotlight.platform.simulate.arrivals.densities import read_densities
from pilotlight.platform.simulate.arrivals.ledger import ledger
from pilotlight.platform.simulate.arrivals.lengths import Same, read_lengths
from pilotlight.platform.simulate.arrivals.minutes import azure_functions
from pilotlight.platform.simulate.arrivals.servegen import read_clients, servegen
from pilotlight.platform.simulate.arrivals.synthetic import Synthetic, synthetic
from pilotlight.platform.simulate.arrivals.tables import azure_llm, own
from pilotlight.platform.simulate.arrivals.values import Arrivals, Batch, beside, between, thinned
from pilotlight.platform.simulate.errors import SimulationRefused, TraceRefused
from pilotlight.platform.simulate.formats import Process

Rows = list[tuple[float, str, int, int]]


def rows(arrivals: Arrivals) -> Rows:
    return [
        (time, arrivals.names[place], prompt, answer)
        for batch in arrivals.read()
        for time, place, prompt, answer in zip(
            batch.times.tolist(),
            batch.functions.tolist(),
            batch.prompts.tolist(),
            batch.answers.tolist(),
            strict=True,
        )
    ]


def times(arrivals: Arrivals) -> list[float]:
    return [time for time, *_ in rows(arrivals)]


def file(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def archive(folder: Path, members: dict[str, str]) -> Path:
    path = folder / "trace.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        for name, text in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return path


AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:46.6805900,374,44\r\n"
    "2023-11-16 18:15:50.9305900,396,0\r\n"
)
OWN = (
    "time,function,prompt_tokens,output_tokens,class\n"
    "0.5,chat,10,20,interactive\n"
    "0.5,sum,100,5,batch\n"
    "2,chat,11,21,interactive\n"
)


def test_azures_requests_count_from_the_first(tmp_path: Path) -> None:
    found = rows(azure_llm(file(tmp_path, AZURE)))

    assert found == [(0.0, "azure-llm", 374, 44), (pytest.approx(4.25), "azure-llm", 396, 1)]


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress), ("", lambda content: content)]
)
def test_files_may_be_compressed(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"trace.csv{suffix}"
    path.write_bytes(pack(AZURE.encode()))

    assert len(rows(azure_llm(path))) == 2


def test_own_files_have_functions_and_classes(tmp_path: Path) -> None:
    arrivals = own(file(tmp_path, OWN))

    assert rows(arrivals) == [(0.5, "chat", 10, 20), (0.5, "sum", 100, 5), (2.0, "chat", 11, 21)]
    assert arrivals.classes == {"chat": "interactive", "sum": "batch"}
    assert rows(arrivals) == rows(arrivals)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"trace\.csv, line 1: the header lacks time"),
        ("time,function,prompt_tokens\n", r"line 1: the header lacks output_tokens"),
        (OWN + "1,chat,1,1,interactive\n", r"line 5, time: 1 s before the line above"),
        (OWN + "nan,chat,1,1,interactive\n", r"line 5, time: expected a number of at least 0, found 'nan'"),
        (OWN + "3,chat,-1,1,interactive\n", r"line 5, prompt_tokens: expected whole tokens"),
        (OWN + "3,chat,99999999999999999999,1,interactive\n", r"line 5, prompt_tokens: expected whole tokens"),
        (OWN + "3,chat,1,1\n", r"line 5: 4 fields, the header has 5"),
        (OWN + "3,,1,1,interactive\n", r"line 5, function: is empty"),
        (OWN + "3,chat,1,1,batch\n", r"line 5, class: chat was interactive before"),
        (OWN + "3,new,1,1,express\n", r"line 5, class: expected one of interactive, batch, found 'express'"),
        (OWN + "x" * (2**20 + 1), r"line 5: longer than"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TraceRefused, match=said):
        rows(own(file(tmp_path, text)))


def test_a_date_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceRefused, match=r"line 4, TIMESTAMP: expected a date and time, found 'soon'") as refused:
        rows(azure_llm(file(tmp_path, AZURE + "soon,1,1\r\n")))
    assert (refused.value.line, refused.value.field) == (4, "TIMESTAMP")


def served(request: str, at: float, prompt: int = 0, answer: int = 0, outcome: str = "ok", status: int = 200) -> str:
    """A row of the ledger as the platform gives it."""
    usage = Usage(
        request,
        "key",
        FunctionId("default", "chat"),
        "r1",
        at,
        prompt_tokens=prompt,
        completion_tokens=answer,
        outcome=outcome,
        status=status,
    )
    return usage_row_out(usage).model_dump_json() + "\n"


def test_the_ledgers_rows_are_put_in_order_and_unknown_lengths_are_drawn(tmp_path: Path) -> None:
    newest_first = [
        served("d", 1_700_000_009.5, 7, 0),
        served("c", 1_700_000_004, outcome="rejected", status=429),
        served("b", 1_700_000_002, 20, 3, "cancelled", 499),
        served("a", 1_700_000_000, 10, 30),
    ]
    found = rows(ledger(file(tmp_path, "".join(newest_first)), Same(100, 50), 0))

    name = "default/chat"
    assert found == [(0.0, name, 10, 30), (2.0, name, 20, 3), (4.0, name, 100, 50), (9.5, name, 7, 1)]


def test_requests_refused_for_their_callers_fault_are_no_arrivals(tmp_path: Path) -> None:
    text = served("a", 5, outcome="rejected", status=400) + served("b", 6, outcome="rejected", status=503)

    assert times(ledger(file(tmp_path, text), Same(), 0)) == [0.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"trace\.csv: has no requests"),
        ("{\n", r"trace\.csv, line 1: Invalid JSON"),
        (served("a", 1) * 2, r"line 2, request: a is in a line above"),
        (served("a", 1).replace('"admitted_at"', '"at"'), r"line 1, admitted_at: Field required"),
        (served("a", 1) + served("b", -1), r"line 2, admitted_at: .*found -1"),
        (served("a", 1, prompt=10**9), r"line 1, prompt_tokens: .*found 1000000000"),
        (served("a", 1).replace('"prompt_tokens":0', '"prompt_tokens":"0"'), r"line 1, prompt_tokens: .*found '0'"),
        (served("a", 1, outcome="splendid"), r"line 1, outcome: .*found 'splendid'"),
        ('{"items": []}\n', r"line 1, request: Field required"),
    ],
)
def test_bad_rows_of_the_ledger_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TraceRefused, match=said):
        ledger(file(tmp_path, text), Same(), 0)


@pytest.mark.parametrize("read", [azure_llm, own, lambda path: azure_functions(path, Same(), 0)])
def test_files_that_are_no_text_are_refused(tmp_path: Path, read: Callable[[Path], Arrivals]) -> None:
    damaged = tmp_path / "trace.csv.xz"
    damaged.write_bytes(lzma.compress(AZURE.encode())[:20])
    with pytest.raises(TraceRefused, match="cannot be read"):
        rows(read(damaged))
    with pytest.raises(TraceRefused, match="No such file"):
        rows(read(tmp_path / "absent.csv"))


MINUTES = "HashOwner,HashFunction,minute_1,minute_2,minute_3\no,f,2,0,1\no,g,0,0,30\n"


def test_calls_fall_into_their_minutes(tmp_path: Path) -> None:
    found = rows(azure_functions(file(tmp_path, MINUTES), Same(7, 9), seed=1))

    assert [(name, int(time // 60)) for time, name, *_ in found if name == "f"] == [("f", 0), ("f", 0), ("f", 2)]
    assert sum(name == "g" and 120 <= time < 180 for time, name, *_ in found) == 30
    assert [time for time, *_ in found] == sorted(time for time, *_ in found)
    assert found[0][2:] == (7, 9)


def test_parts_of_a_call_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceRefused, match="line 4, minute_2: expected a whole number of calls"):
        azure_functions(file(tmp_path, MINUTES + "o,h,0,1.5,0\n"), Same(), 0)


CLIENT_0 = "0,0.5,1,Gamma,1,2\n600,0,0,,0,0\n1200,0.01,3,Weibull,0.4,9\n"
CLIENT_7 = "0,0.1,1,Gamma,0.3,2\n600,0,0,,0,0\n1200,0,0,,0,0\n"


def test_servegens_windows_have_the_trace_s_own_counts_and_no_gap_of_collection(tmp_path: Path) -> None:
    path = archive(tmp_path, {"chunk-7-trace.csv": CLIENT_7, "x/chunk-0-trace.csv": CLIENT_0, "notes.txt": "?"})
    found = rows(servegen(path, Same(), seed=3))

    assert sum(name == "client-0" and time < 600 for time, name, *_ in found) == 300
    assert sum(name == "client-7" for _, name, *_ in found) == 60
    # The second window has no client at all and is cut out: the third follows the first.
    assert sum(name == "client-0" and 600 <= time < 1200 for time, name, *_ in found) == 6
    assert len(found) == 366
    assert found == rows(servegen(path, Same(), seed=3)) != rows(servegen(path, Same(), seed=4))
    assert rows(servegen(path, Same(), seed=3, span=(700.0, 800.0))) == [row for row in found if row[0] >= 600]


def test_servegens_clients_can_be_chosen_by_their_rate(tmp_path: Path) -> None:
    path = archive(tmp_path, {"chunk-7-trace.csv": CLIENT_7, "chunk-0-trace.csv": CLIENT_0})

    assert servegen(path, Same(), 0, keep=lambda client: client.mean_rate < 0.1).names == ["client-7"]
    assert [round(client.mean_rate, 4) for client in read_clients(path)[1]] == [0.17, 0.0333]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"chunk-0-trace.csv": "0,1,1,Gamma,1\n"}, r"line 1, chunk-0-trace\.csv, fields: expected t_s"),
        ({"chunk-0-trace.csv": "0,-1,1,Gamma,1,1\n"}, r"chunk-0-trace\.csv, rate_rps: expected a number from 0"),
        ({"chunk-0-trace.csv": "0,1,1,Normal,1,1\n"}, r"pattern: expected Gamma, Weibull or nothing, found 'Normal'"),
        ({"chunk-0-trace.csv": "0,1,1,Gamma,1,1\n0,1,1,Gamma,1,1\n"}, "windows are not of one length"),
        ({"chunk-0-trace.csv": CLIENT_0, "chunk-1-trace.csv": CLIENT_0[:20] + "\n"}, "line 2|other windows"),
        ({"readme": "nothing"}, "has no chunk-<client>-trace.csv"),
    ],
)
def test_bad_archives_are_refused(tmp_path: Path, members: dict[str, str], said: str) -> None:
    with pytest.raises(TraceRefused, match=said):
        servegen(archive(tmp_path, members), Same(), 0)


DENSITY = """{
    "0": {"input_tokens": "{}", "output_tokens": "{}"},
    "600": {"input_tokens": "{5: 0.25, 8: 0.75}", "output_tokens": "{3: 1e-3}"}
}"""


def test_servegens_lengths_are_each_clients_own(tmp_path: Path) -> None:
    lengths = read_densities(archive(tmp_path, {"chunk-4-dataset.json": DENSITY}))
    prompts, answers = lengths.draw(np.random.default_rng(0), 4000, "client-4", 700.0)

    assert set(prompts.tolist()) == {5, 8}
    assert set(answers.tolist()) == {3}
    assert np.mean(prompts == 5) == pytest.approx(0.25, abs=0.03)
    assert lengths.draw(np.random.default_rng(0), 1, "client-5", 0.0)[0].tolist() == [512]


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"0": {"input_tokens": "__import__(1)", "output_tokens": "{}"}}', '{"x": {}}', "{}"]
)
def test_lengths_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(TraceRefused):
        read_densities(archive(tmp_path, {"chunk-4-dataset.json": text}))


def test_vidurs_lengths_are_drawn_in_pairs(tmp_path: Path) -> None:
    lengths = read_lengths(file(tmp_path, "num_prefill_tokens,num_decode_tokens\n10,1\n20,2\n"))
    prompts, answers = lengths.draw(np.random.default_rng(0), 100, "any", 0.0)

    assert set(zip(prompts.tolist(), answers.tolist(), strict=True)) == {(10, 1), (20, 2)}


@pytest.mark.parametrize("process", list(Process))
def test_made_up_arrivals_have_their_rate_and_their_seed(process: Process) -> None:
    what = Synthetic(process, rate=0.5, seconds=2 * 86_400, functions=2, seed=5, variation=2.0)
    found = times(synthetic(what, Same()))

    assert len(found) == pytest.approx(0.5 * 2 * 2 * 86_400, rel=0.04)
    assert found == sorted(found)
    assert 0 <= found[0] < found[-1] <= what.seconds
    assert found == times(synthetic(what, Same()))


def variation(found: list[float]) -> float:
    gaps = np.diff(found)
    return float(np.std(gaps) / np.mean(gaps))


def test_gaps_are_as_bursty_as_asked() -> None:
    poisson = Synthetic(Process.POISSON, rate=1.0, seconds=20_000, seed=1)
    gamma = Synthetic(Process.GAMMA, rate=1.0, seconds=50_000, seed=1, variation=3.0)

    assert variation(times(synthetic(poisson, Same()))) == pytest.approx(1.0, abs=0.05)
    assert variation(times(synthetic(gamma, Same()))) == pytest.approx(3.0, abs=0.3)


def test_rates_follow_their_shapes() -> None:
    step = np.array(times(synthetic(Synthetic(Process.STEP, rate=1.0, seconds=20_000, seed=1), Same())))
    assert np.sum(step >= 10_000) / np.sum(step < 10_000) == pytest.approx(4.0, rel=0.1)
    day = np.array(times(synthetic(Synthetic(Process.DIURNAL, rate=1.0, seconds=86_400, seed=1), Same())))
    assert np.sum(abs(day - 43_200) < 10_800) > 3 * np.sum(abs(day - 43_200) > 32_400)


def test_made_up_arrivals_without_a_rate_are_refused() -> None:
    with pytest.raises(SimulationRefused):
        Synthetic(Process.POISSON, rate=0.0)


def test_a_window_counts_from_its_beginning() -> None:
    batches = [
        Batch(np.array(at), *(np.zeros(len(at), dtype=np.int64) for _ in range(3)))
        for at in ([0.0, 5.0], [6.0, 9.0], [9.5])
    ]
    arrivals = Arrivals(lambda: iter(batches), ["f"])

    assert times(between(arrivals, 5.0, 9.0)) == [0.0, 1.0]


def test_a_share_is_kept_of_everything_and_drawn_by_the_seed() -> None:
    whole = synthetic(Synthetic(Process.POISSON, rate=1.0, seconds=20_000), Same())
    part = times(thinned(whole, 0.1, seed=1))

    assert len(part) == pytest.approx(2_000, rel=0.1)
    assert set(part) <= set(times(whole))
    assert part == times(thinned(whole, 0.1, seed=1)) != times(thinned(whole, 0.1, seed=2))


def test_traces_beside_each_other_keep_their_functions_and_their_order() -> None:
    rare = synthetic(Synthetic(Process.POISSON, rate=0.01, seconds=5_000, seed=1), Same(3, 1))
    many = synthetic(Synthetic(Process.POISSON, rate=0.1, seconds=9_000, functions=2, seed=2), Same(4, 1))
    found = rows(beside([rare, many]))

    assert times(beside([rare, many])) == sorted(times(rare) + times(many))
    assert {(name, prompt) for _, name, prompt, _ in found} == {
        ("0/poisson-0", 3),
        ("1/poisson-0", 4),
        ("1/poisson-1", 4),
    }
