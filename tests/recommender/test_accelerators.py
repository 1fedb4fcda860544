"""The catalogue: sourced, found by the names that drivers and clouds use, extended by files."""

from pathlib import Path

import pytest

from pilotlight.recommender.accelerators import (
    Accelerator,
    CatalogueRefused,
    UnknownAccelerator,
    builtin,
    read_catalogue,
)

OWN = """
h100-sxm: {price: 1.25}
lab-card: {memory: 17179869184, bandwidth: 4.0e11, flops: {fp16: 5.0e13}, source: its datasheet, aliases: [lab]}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "own.yaml"
    file.write_text(OWN)
    return file


@pytest.mark.parametrize("entry", builtin().entries, ids=lambda entry: entry.name)
def test_every_entry_has_plausible_numbers_and_their_source(entry: Accelerator) -> None:
    assert 2**33 <= entry.memory_bytes <= 2**40
    assert 1e11 <= entry.bandwidth <= 2e13
    assert all(1e13 <= rate <= 5e16 for rate in entry.flops.values())
    assert entry.source
    assert (entry.price is None) == (entry.price_source is None)


def test_no_two_entries_answer_to_one_name() -> None:
    for entry in builtin().entries:
        assert all(builtin().find(name) is entry for name in (entry.name, *entry.aliases))


@pytest.mark.parametrize("name", ["h100_sxm", "H100-SXM", "nvidia-h100", "NVIDIA H100 80GB HBM3"])
def test_names_of_drivers_and_data_sets_are_known(name: str) -> None:
    assert builtin().find(name).name == "h100-sxm"


def test_an_unknown_one_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownAccelerator, match="h100-sxm") as caught:
        builtin().find("h100-smx")

    assert caught.value.nearest[0] == "h100-sxm"


def test_a_name_like_none_is_answered_with_all() -> None:
    with pytest.raises(UnknownAccelerator) as caught:
        builtin().find("§§§")

    assert set(caught.value.nearest) == {entry.name for entry in builtin().entries}


def test_own_entries_come_in_addition_and_win(own: Path) -> None:
    catalogue = read_catalogue([own])

    assert catalogue.find("lab").bandwidth == 4.0e11
    assert (catalogue.find("h100").price, catalogue.find("h100").price_source) == (1.25, str(own))
    assert catalogue.find("h100").bandwidth == builtin().find("h100").bandwidth
    assert catalogue.find("h200").name == "h200-sxm"


def test_arithmetic_falls_back_to_sixteen_bits(own: Path) -> None:
    catalogue = read_catalogue([own])

    assert catalogue.find("h200").arithmetic("fp8") == 1979e12
    assert catalogue.find("a100").arithmetic("fp8") == 312e12
    assert catalogue.find("lab").arithmetic("bf16") == 5.0e13


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x: {memory: 1}", "lacks bandwidth, flops, source"),
        ("x: {memory: 1, bandwidth: 1, flops: {bf16: 1}, source: s, watts: 5}", "watts"),
        ("x: {memory: .nan, bandwidth: 1, flops: {bf16: 1}, source: s}", "x, memory"),
        ("x: {memory: true, bandwidth: 1, flops: {bf16: 1}, source: s}", "x, memory"),
        ("x: {memory: 1, bandwidth: fast, flops: {bf16: 1}, source: s}", "x, bandwidth"),
        ("x: {memory: 1, bandwidth: 1, flops: {fp8: 1}, source: s}", "flops"),
        ("x: {memory: 1, bandwidth: 1, flops: {bf16: 1}, source: s, price: -1}", "x, price"),
        ("x: 7", "x: is not a mapping"),
        ("[1, 2]", "not a mapping"),
        ("{", "not YAML"),
    ],
)
def test_a_file_that_is_none_is_refused_with_entry_and_field(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)

    with pytest.raises(CatalogueRefused, match=said) as caught:
        read_catalogue([file])

    assert "bad.yaml" in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueRefused, match=r"none\.yaml cannot be read"):
        read_catalogue([tmp_path / "none.yaml"])
