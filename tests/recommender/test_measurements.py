"""Files of measurements: read exactly, copies once, and refused with line and column."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pilotlight.recommender.accelerators import builtin
from pilotlight.recommender.measurements import COLUMNS, DataRefused, groups, read_measurements, setup_of

ROW = {
    "backend_version": "0.19.0",
    "model_path": "Qwen/Qwen3-32B",
    "system": "h100_sxm",
    "precision": "fp8",
    "isl": "1024",
    "osl": "512",
    "gemm_quant_mode": "fp8",
    "tp_size": "2",
    "batch_size": "8",
    "silicon_ttft_ms": "120.5",
    "silicon_tpot_ms": "10",
}
Write = Callable[..., Path]


@pytest.fixture
def csv(tmp_path: Path) -> Write:
    def write(*rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> Path:
        file = tmp_path / "measured.csv"
        lines = [
            ",".join({**ROW, "id": f"row{n}", **row}.get(name, "") for name in columns) for n, row in enumerate(rows)
        ]
        file.write_text("\n".join([",".join(columns), *lines]) + "\n")
        return file

    return write


def test_milliseconds_become_seconds(csv: Write) -> None:
    (row,) = read_measurements(csv({}))

    assert [row.batch, row.ttft, row.itl] == pytest.approx([8.0, 0.1205, 0.01])


def test_copies_under_other_ids_are_one_measurement_and_repeats_are_two(csv: Write) -> None:
    assert len(read_measurements(csv({}, {}, {"silicon_tpot_ms": "11"}))) == 2


def test_columns_may_come_in_any_order_and_with_others(csv: Write) -> None:
    assert read_measurements(csv({}, columns=(*reversed(COLUMNS), "note"))) == read_measurements(csv({}))


def test_groups_differ_in_settings_and_have_enough_batch_sizes(csv: Write) -> None:
    rows = [{"batch_size": size, "tp_size": tp} for tp in ("1", "2") for size in ("1", "2", "4")]
    found = groups(read_measurements(csv(*rows, {"tp_size": "4"}, {"tp_size": "4", "silicon_tpot_ms": "9"})), 3)

    assert [len(group) for group in found] == [3, 3]


def test_a_row_says_how_the_engine_was_set_up(csv: Write) -> None:
    setup = setup_of(read_measurements(csv({"attention_dp_size": "2"}))[0], builtin())

    assert setup is not None
    assert (setup.prompt, setup.answer, setup.devices, setup.number_format) == (1024, 512, 4, "fp8")
    assert setup.shape.dense_bytes == pytest.approx(setup.shape.dense_parameters, rel=1e-3)


def test_what_runs_at_once_is_bounded_by_what_the_cache_holds(csv: Write) -> None:
    setup = setup_of(read_measurements(csv({}))[0], builtin())
    left = 2 * (0.92 * 80 * 2**30 - 17e9 - 3e9)  # bytes of two devices, less weights and what the engine takes

    assert setup is not None
    assert setup.resident == pytest.approx(left / (1536 * 64 * 2 * 8 * 128), rel=0.07)
    assert setup.accelerator.name == "h100-sxm"


@pytest.mark.parametrize("unknown", [{"model_path": "someone/else"}, {"system": "abacus"}])
def test_unknown_models_and_accelerators_have_no_setup(unknown: dict[str, str], csv: Write) -> None:
    assert setup_of(read_measurements(csv(unknown))[0], builtin()) is None


@pytest.mark.parametrize("column", ["isl", "osl", "tp_size", "batch_size", "silicon_ttft_ms", "silicon_tpot_ms"])
@pytest.mark.parametrize("value", ["nan", "", "0", "-3", "inf", "fast"])
def test_a_value_that_is_no_number_above_zero_is_refused_with_its_place(column: str, value: str, csv: Write) -> None:
    with pytest.raises(DataRefused, match=f"measured.csv, line 3, {column}: '{value}'"):
        read_measurements(csv({}, {column: value}))


@pytest.mark.parametrize("column", ["tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size"])
def test_half_a_device_is_refused(column: str, csv: Write) -> None:
    with pytest.raises(DataRefused, match=f"{column}: '1.5' is not a whole number"):
        read_measurements(csv({column: "1.5"}))


def test_missing_columns_are_named(csv: Write) -> None:
    with pytest.raises(DataRefused, match="lacks the columns isl, silicon_tpot_ms;"):
        read_measurements(csv({}, columns=tuple(name for name in COLUMNS if name not in ("isl", "silicon_tpot_ms"))))


def test_a_short_line_is_refused(csv: Write) -> None:
    file = csv({})
    file.write_text(file.read_text() + "row9,0.19.0\n")

    with pytest.raises(DataRefused, match="line 3, isl"):
        read_measurements(file)


@pytest.mark.parametrize(("content", "said"), [(b"", "lacks the columns"), (b"\xff\xfe\x00", "cannot be read as CSV")])
def test_what_is_no_table_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "measured.csv"
    file.write_bytes(content)

    with pytest.raises(DataRefused, match=said):
        read_measurements(file)


def test_a_header_without_rows_and_a_file_that_is_not_there_are_refused(csv: Write, tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="no rows"):
        read_measurements(csv())
    with pytest.raises(DataRefused, match="No such file"):
        read_measurements(tmp_path / "none.csv")
