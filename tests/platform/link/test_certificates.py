"""The authority and its leaves, without any connection."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pilotlight.platform.link.certificates import (
    CertificateError,
    Pair,
    Role,
    authority,
    authority_of,
    due,
    files,
    issue,
    leaf_of,
)
from pilotlight.platform.link.tls import store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SERVICE = "pilotlight-control.pilotlight-system.svc"


def test_a_leaf_is_the_authoritys_and_carries_names_and_role() -> None:
    ca = authority(NOW)
    leaf = issue(ca, Role.OPERATOR, [SERVICE, "10.0.0.1"], NOW)

    leaf.certificate.verify_directly_issued_by(ca.certificate)
    names = leaf.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [SERVICE]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://pilotlight/operator"]
    assert isinstance(leaf.key.curve, ec.SECP256R1)


def test_lives_are_ten_years_and_ninety_days() -> None:
    ca = authority(NOW)
    assert ca.certificate.not_valid_after_utc == NOW + timedelta(days=3650)
    assert issue(ca, Role.ACTIVATOR, (), NOW).certificate.not_valid_after_utc == NOW + timedelta(days=90)


@pytest.mark.parametrize(("days", "expected"), [(0, False), (59, False), (61, True), (100, True)])
def test_a_leaf_is_due_after_two_thirds_of_its_life(days: int, expected: bool) -> None:
    leaf = issue(authority(NOW), Role.ACTIVATOR, (), NOW)
    assert due(leaf.certificate, NOW + timedelta(days=days)) is expected


def test_a_pair_is_read_back_from_pem() -> None:
    leaf = issue(authority(NOW), Role.ACTIVATOR, (), NOW)
    again = Pair.read(leaf.certificate_pem, leaf.key_pem)
    assert again.certificate == leaf.certificate
    assert again.key_pem == leaf.key_pem


def test_a_key_of_another_certificate_and_bytes_that_are_none_are_refused() -> None:
    one, other = (issue(authority(NOW), Role.ACTIVATOR, (), NOW) for _ in range(2))
    with pytest.raises(CertificateError, match="not the certificate's"):
        Pair.read(one.certificate_pem, other.key_pem)
    with pytest.raises(CertificateError, match="no PEM"):
        Pair.read(b"nonsense", one.key_pem)


def test_an_authority_is_kept_and_a_damaged_one_is_not_replaced_unasked() -> None:
    ca = authority_of({}, NOW)
    held = {"ca.crt": ca.certificate_pem, "ca.key": ca.key_pem}
    assert authority_of(held, NOW).certificate == ca.certificate
    with pytest.raises(CertificateError, match="remove both"):
        authority_of({**held, "ca.key": b""}, NOW)


def test_a_leaf_is_kept_while_it_is_good() -> None:
    ca = authority(NOW)
    held = files(ca, issue(ca, Role.OPERATOR, [SERVICE], NOW))
    kept = leaf_of(held, ca, Role.OPERATOR, [SERVICE], NOW + timedelta(days=30))
    assert kept.certificate_pem == held["tls.crt"]


def test_a_leaf_that_is_due_damaged_foreign_or_of_other_names_or_role_is_renewed() -> None:
    ca = authority(NOW)
    held = files(ca, issue(ca, Role.OPERATOR, [SERVICE], NOW))
    renewed = [
        leaf_of(held, ca, Role.OPERATOR, [SERVICE], NOW + timedelta(days=70)),
        leaf_of({**held, "tls.key": b"x"}, ca, Role.OPERATOR, [SERVICE], NOW),
        leaf_of(held, authority(NOW), Role.OPERATOR, [SERVICE], NOW),
        leaf_of(held, ca, Role.OPERATOR, [SERVICE, "other"], NOW),
        leaf_of(held, ca, Role.ACTIVATOR, [SERVICE], NOW),
        leaf_of({}, ca, Role.OPERATOR, [SERVICE], NOW),
    ]
    assert held["tls.crt"] not in {leaf.certificate_pem for leaf in renewed}


def test_stored_keys_are_for_their_owner_only_and_a_pair_does_not_print_its_key(tmp_path: Path) -> None:
    ca = authority(NOW)
    leaf = issue(ca, Role.ACTIVATOR, (), NOW)
    folder = tmp_path / "certificates"
    store(folder, files(ca, leaf))
    store(folder, files(ca, leaf))

    assert sorted(path.name for path in folder.iterdir()) == ["ca.crt", "tls.crt", "tls.key"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "PRIVATE" not in repr(leaf)
