"""Room under a container's limit: what is read of it, and when it is pressed for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.runtime.memorygroup import SLACK_BYTES, MemoryGroup, make_room, read_group

NOTHING = {"file_mapped": 0, "file_dirty": 0, "file_writeback": 0}
BYTES = st.integers(0, 2**45)


def write(root: Path, limit: str, used: int, **stat: int) -> None:
    (root / "memory.max").write_text(f"{limit}\n")
    (root / "memory.current").write_text(f"{used}\n")
    (root / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in stat.items()))


def test_file_pages_that_can_be_dropped_at_once_are_cache(tmp_path: Path) -> None:
    write(
        tmp_path,
        "4000",
        3900,
        anon=1000,
        inactive_file=1500,
        active_file=1400,
        file_mapped=900,
        file_dirty=60,
        file_writeback=40,
    )
    assert read_group(tmp_path) == MemoryGroup(limit=4000, used=3900, cache=1900)


def test_version_1_has_other_names_and_a_limit_beyond_all_memory_is_none_that_binds(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.limit_in_bytes").write_text(f"{2**63 - 4096}\n")
    (tmp_path / "memory/memory.usage_in_bytes").write_text("5000\n")
    stat = {"inactive_file": 1, "total_inactive_file": 300, "total_active_file": 200, "total_mapped_file": 100}
    stat |= {"total_dirty": 30, "total_writeback": 20}
    (tmp_path / "memory/memory.stat").write_text("".join(f"{name} {value}\n" for name, value in stat.items()))
    group = read_group(tmp_path)
    assert group == MemoryGroup(limit=2**63 - 4096, used=5000, cache=350)
    assert group.to_press(2**40) == 0


@pytest.mark.parametrize("limit", ["max", "many", ""])
def test_without_a_limit_there_is_no_group(tmp_path: Path, limit: str) -> None:
    write(tmp_path, limit, 1, inactive_file=1, active_file=1, **NOTHING)
    assert read_group(tmp_path) is None


def test_other_control_groups_are_left_alone(tmp_path: Path) -> None:
    make_room(2**60, tmp_path)
    assert read_group(tmp_path) is None


@given(BYTES, BYTES, BYTES, BYTES)
def test_it_presses_only_where_that_can_help(limit: int, used: int, cache: int, wanted: int) -> None:
    group = MemoryGroup(limit, min(used, limit), min(cache, used, limit))
    pressed = group.to_press(wanted)
    assert pressed in (0, wanted + SLACK_BYTES)
    if pressed:
        assert group.left < wanted, "what is left would do"
        assert pressed + SLACK_BYTES <= group.left + group.cache, "the limit is not reached meanwhile"


PRESS = """
import sys
from pathlib import Path
from pilotlight.runtime.memorygroup import make_room
make_room(2**28, Path(sys.argv[1]))
print(Path("/proc/self/status").read_text())
"""


def test_pressing_takes_the_memory_and_gives_it_back(tmp_path: Path) -> None:
    write(tmp_path, str(2**30), 2**30, inactive_file=2**29, active_file=0, **NOTHING)
    told = subprocess.run([sys.executable, "-c", PRESS, str(tmp_path)], capture_output=True, text=True, check=True)
    kib = {line.split()[0]: int(line.split()[1]) for line in told.stdout.splitlines() if line.startswith("Vm")}
    assert kib["VmHWM:"] * 1024 > 2**28
    assert kib["VmRSS:"] * 1024 < 2**27
