"""Certificates in Secrets: made once, kept, renewed in time, and one authority for all."""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from pilotlight.platform.kubernetes.kinds import SECRET
from pilotlight.platform.kubernetes.trust import ACTIVATORS, AUTHORITY, Trust
from pilotlight.platform.link.certificates import LEAF_DAYS, CertificateError

if TYPE_CHECKING:
    from tests.platform.kubernetes.conftest import ScriptedApi

NAMES = ("pilotlight-control.system.svc", "127.0.0.1")
DAY = 86400.0


def trust(api: ScriptedApi, folder: Path, clock: Any) -> Trust:
    stand_in: Any = api
    return Trust(stand_in, "system", folder, NAMES, clock)


def held(api: ScriptedApi, name: str) -> dict[str, bytes]:
    return {key: b64decode(value) for key, value in api.get(SECRET, "system", name)["data"].items()}


def certificate(content: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(content)


def writes(api: ScriptedApi) -> list[tuple[str, str]]:
    return [(verb, name) for verb, _, name in api.calls if verb != "get"]


def test_what_is_missing_is_made(api: ScriptedApi, tmp_path: Path, clock: Any) -> None:
    trust(api, tmp_path / "tls", clock).refresh()

    ca = held(api, AUTHORITY)
    assert set(ca) == {"ca.crt", "ca.key"}
    theirs = held(api, ACTIVATORS)
    assert set(theirs) == {"ca.crt", "tls.crt", "tls.key"}, "the authority's key is for operators"
    own = (tmp_path / "tls" / "tls.crt").read_bytes()
    for leaf in (theirs["tls.crt"], own):
        certificate(leaf).verify_directly_issued_by(certificate(ca["ca.crt"]))
    assert own != theirs["tls.crt"]
    assert (tmp_path / "tls" / "tls.key").stat().st_mode & 0o077 == 0


def test_what_is_good_is_kept(api: ScriptedApi, tmp_path: Path, clock: Any) -> None:
    trust(api, tmp_path, clock).refresh()
    own = (tmp_path / "tls.crt").read_bytes()
    api.calls.clear()
    clock.time += LEAF_DAYS * DAY / 2

    trust(api, tmp_path, clock).refresh()

    assert writes(api) == []
    assert (tmp_path / "tls.crt").read_bytes() == own


def test_what_is_due_is_renewed_by_the_same_authority(api: ScriptedApi, tmp_path: Path, clock: Any) -> None:
    trust(api, tmp_path, clock).refresh()
    ca, theirs, own = held(api, AUTHORITY), held(api, ACTIVATORS), (tmp_path / "tls.crt").read_bytes()
    api.calls.clear()
    clock.time += LEAF_DAYS * DAY * 0.7

    trust(api, tmp_path, clock).refresh()

    assert writes(api) == [("patch", ACTIVATORS)]
    assert held(api, AUTHORITY) == ca
    for before, after in (
        (theirs["tls.crt"], held(api, ACTIVATORS)["tls.crt"]),
        (own, (tmp_path / "tls.crt").read_bytes()),
    ):
        assert after != before
        certificate(after).verify_directly_issued_by(certificate(ca["ca.crt"]))
        assert certificate(after).not_valid_after_utc > datetime.fromtimestamp(clock.now() + 80 * DAY, UTC)


def test_two_that_begin_at_once_agree_on_one_authority(api: ScriptedApi, tmp_path: Path, clock: Any) -> None:
    first, second = trust(api, tmp_path / "a", clock), trust(api, tmp_path / "b", clock)
    api.before["create"] = first.refresh  # after the second one has seen that there is none

    second.refresh()

    ca = held(api, AUTHORITY)["ca.crt"]
    for folder in ("a", "b"):
        assert (tmp_path / folder / "ca.crt").read_bytes() == ca
        certificate((tmp_path / folder / "tls.crt").read_bytes()).verify_directly_issued_by(certificate(ca))
    assert held(api, ACTIVATORS)["ca.crt"] == ca


@pytest.mark.parametrize("name", [AUTHORITY, ACTIVATORS])
def test_a_secret_that_is_empty_is_filled(api: ScriptedApi, tmp_path: Path, clock: Any, name: str) -> None:
    api.create(SECRET, {"metadata": {"namespace": "system", "name": name}})

    trust(api, tmp_path, clock).refresh()
    ca = held(api, AUTHORITY)
    trust(api, tmp_path, clock).refresh()

    assert held(api, AUTHORITY) == ca
    assert (tmp_path / "ca.crt").read_bytes() == held(api, ACTIVATORS)["ca.crt"] == ca["ca.crt"]


def test_a_damaged_authority_is_not_replaced_unasked(api: ScriptedApi, tmp_path: Path, clock: Any) -> None:
    data = {"ca.crt": b64encode(b"x").decode(), "ca.key": b64encode(b"y").decode()}
    api.create(SECRET, {"metadata": {"namespace": "system", "name": AUTHORITY}, "data": data})

    with pytest.raises(CertificateError, match="remove both for a new authority"):
        trust(api, tmp_path, clock).refresh()

    assert held(api, AUTHORITY)["ca.crt"] == b"x"
