"""A model learns what is normal, however little is known, and keeps it in a file."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pilotlight.detector.alarming import Alarming
from pilotlight.detector.artefact import Artefact, ArtefactRefused, Origin, read, write
from pilotlight.detector.attribution import contributions
from pilotlight.detector.model import Columns, Model, Profile, score
from pilotlight.detector.training import fit
from pilotlight.detector.vae import Settings

Rows = np.typing.NDArray[np.float64]

NAMES = ("load", "tokens", "memory", "latency", "constant")
COLUMNS = Columns(judged=(1, 2, 3, 4), load=(0,))
QUICK = Settings(epochs=8, batch=128)
ALARMING = Alarming(minutes_per_row=5)


def served(seed: int, rows: int = 1500, unit: float = 1.0) -> Rows:
    """Tokens follow the load, latency its square; memory is on its own, and one metric never changes."""
    generator = np.random.default_rng(seed)
    load = 1 + np.sin(np.arange(rows) / 46) + 0.1 * generator.random(rows)
    tokens, latency = 10 * load, 0.1 * load**2
    noise = 1 + 0.02 * generator.normal(size=(rows, 3))
    return unit * np.column_stack((load, tokens * noise[:, 0], noise[:, 1], latency * noise[:, 2], np.full(rows, 2.0)))


@pytest.fixture(scope="module")
def trained() -> tuple[Model, dict[str, Profile]]:
    return fit({"small": served(1), "large": served(2, unit=1000.0)}, NAMES, COLUMNS, QUICK, ALARMING)


def scores(trained: tuple[Model, dict[str, Profile]], rows: Rows, revision: str = "small") -> Rows:
    model, profiles = trained
    return score(model.surprises(rows, profiles[revision]))


def test_normal_rows_score_about_0_in_every_revision_whatever_its_scale(
    trained: tuple[Model, dict[str, Profile]],
) -> None:
    assert np.median(scores(trained, served(3))) < 0.5
    assert np.median(scores(trained, served(3, unit=1000.0), "large")) < 0.5


def test_much_load_is_no_anomaly_and_slow_answers_to_little_load_are(
    trained: tuple[Model, dict[str, Profile]],
) -> None:
    rows = served(4)
    busy, quiet = (rows[np.argsort(rows[:, 0])[place]][None] for place in (-1, 100))
    slow = quiet.copy()
    slow[0, 3] = busy[0, 3]

    assert scores(trained, busy)[0] < 2 < scores(trained, slow)[0]


def test_the_metric_that_changed_is_named(trained: tuple[Model, dict[str, Profile]]) -> None:
    model, profiles = trained
    judged = [NAMES[place] for place in COLUMNS.judged]
    for name in judged:
        row = served(5)[700:701]
        row[0, NAMES.index(name)] += {"tokens": 8, "memory": 0.5, "latency": 0.3, "constant": 1}[name]
        shares = contributions(model.surprises(row, profiles["small"]), judged)

        assert max(shares, key=lambda one: shares[one]) == name
        assert sum(map(abs, shares.values())) == pytest.approx(1)


def test_what_is_unknown_is_left_out_and_is_not_zero(trained: tuple[Model, dict[str, Profile]]) -> None:
    model, profiles = trained
    rows = served(6)[:200]
    rows[:, 2] = np.nan
    surprises = model.surprises(rows, profiles["small"])

    assert np.isnan(surprises[:, 1]).all()
    assert np.isfinite(surprises[:, [0, 2, 3]]).all()
    assert np.median(score(surprises)) < 1.5
    assert np.isnan(score(model.surprises(np.full((1, 5), np.nan), profiles["small"]))).all()


def test_a_revision_that_never_told_a_metric_can_be_learned() -> None:
    rows = served(7, rows=300)
    rows[:, 2] = np.nan
    model, profiles = fit({"one": rows}, NAMES, COLUMNS, replace(QUICK, epochs=1), ALARMING)

    assert np.isfinite(score(model.surprises(rows, profiles["one"]))).all()
    assert np.isfinite(profiles["one"].level)


def test_the_same_rows_and_seed_make_the_same_file(tmp_path: Path) -> None:
    def version(seed: int) -> str:
        settings = replace(QUICK, epochs=1, seed=seed)
        model, profiles = fit({"one": served(8, rows=400)}, NAMES, COLUMNS, settings, ALARMING)
        return write(Artefact(model, profiles, Origin(0.0, 1.0, 400, 0, seed)), tmp_path / "model.safetensors")

    assert version(1) == version(1)
    assert version(1) != version(2)


def test_labelled_incidents_stand_out_more_and_normal_rows_do_not() -> None:
    incidents = served(9, rows=60)
    incidents[:, 2] *= 1.05  # a little more memory than usual
    settings = replace(QUICK, epochs=20, margin=6.0)

    def found(labelled: dict[str, Rows] | None) -> tuple[float, float]:
        model, profiles = fit({"one": served(10)}, NAMES, COLUMNS, settings, ALARMING, labelled)
        other = served(11)
        other[:, 2] *= 1.05
        return tuple(float(np.median(score(model.surprises(rows, profiles["one"])))) for rows in (served(12), other))  # type: ignore[return-value]

    without, taught = found(None), found({"one": incidents})
    assert taught[1] - taught[0] > without[1] - without[0]


# Files


@pytest.fixture
def file(trained: tuple[Model, dict[str, Profile]], tmp_path: Path) -> Path:
    write(Artefact(*trained, Origin(1e9, 2e9, 3000, 0, 0)), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_a_model_comes_back_from_its_file(file: Path, trained: tuple[Model, dict[str, Profile]]) -> None:
    found = read(file)

    assert found.origin == Origin(1e9, 2e9, 3000, 0, 0)
    assert found.model.names == NAMES
    assert found.profiles.keys() == trained[1].keys()
    rows = served(13)
    assert scores((found.model, dict(found.profiles)), rows, "large") == pytest.approx(scores(trained, rows, "large"))


def test_scoring_from_a_file_needs_no_torch(file: Path) -> None:
    code = f"""
import sys
from pathlib import Path
import numpy as np
from pilotlight.detector.artefact import read
from pilotlight.detector.model import score
found = read(Path({str(file)!r}))
score(found.model.surprises(np.ones((1, 5)), found.profiles["small"]))
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-Ic", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "cannot be read as safetensors", id="empty"),
        pytest.param(b"\x80\x04N.", "cannot be read as safetensors", id="a pickle"),
        pytest.param(b"\xff" * 64, "cannot be read as safetensors", id="a header without end"),
        pytest.param((2).to_bytes(8, "little") + b"{}", "expected format pilotlight-detector-1", id="nothing in it"),
    ],
)
def test_a_file_that_is_no_model_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.safetensors"
    file.write_bytes(content)

    with pytest.raises(ArtefactRefused, match=said):
        read(file)


def test_a_model_that_lacks_a_part_is_refused(file: Path) -> None:
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["profiles/other"] = header.pop("profiles/bias")
    changed = json.dumps(header).encode()
    file.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + length :])

    with pytest.raises(ArtefactRefused, match="profiles/bias"):
        read(file)
