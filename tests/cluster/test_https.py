"""HTTPS on the hosts of Knative ingresses, with the certificates that they name."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.cluster.conftest import Cluster

from pilotlight.platform.kubernetes.kinds import FUNCTION_LABEL, INGRESS, SECRET
from pilotlight.platform.kubernetes.knative.names import INGRESS_CLASS, OUR_INGRESS_CLASS

HOST = "chat.example"
ASK = """
import http.client, json, socket, ssl, time

given = json.loads({given!r})
context = ssl.create_default_context(cadata=given["certificate"])
context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # it is no authority's

def ask():
    with (
        socket.create_connection(("pilotlight-activator.pilotlight-system.svc", 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=given["host"]) as tls,
    ):
        connection = http.client.HTTPConnection(given["host"])
        connection.sock = tls
        connection.request("GET", "/v1/models", headers={{"Authorization": "Bearer " + given["key"]}})
        return json.loads(connection.getresponse().read())

deadline = time.monotonic() + 60
while True:
    try:
        print(json.dumps(ask()))
        break
    except OSError:  # the certificate is not served yet
        if time.monotonic() > deadline:
            raise
        time.sleep(0.2)
"""


def certificate() -> tuple[str, str]:
    """For the host, signed by itself, and its key; PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now - timedelta(hours=1), now + timedelta(days=1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM).decode(), pem.decode()


@pytest.mark.timeout(300)
def test_a_host_is_served_with_the_certificate_that_its_ingress_names(cluster: Cluster, namespace: str) -> None:
    served, key = certificate()
    cluster.function(namespace, "chat")
    cluster.until_ready(namespace, "chat")
    secret = {"metadata": {"namespace": namespace, "name": "own"}, "type": "kubernetes.io/tls"}
    cluster.api.create(SECRET, {**secret, "stringData": {"tls.crt": served, "tls.key": key}})
    split = {"serviceName": "chat-00001", "serviceNamespace": namespace, "servicePort": 80, "percent": 100}
    metadata = {
        "namespace": namespace,
        "name": "own",
        "labels": {FUNCTION_LABEL: "chat"},
        "annotations": {INGRESS_CLASS: OUR_INGRESS_CLASS},
    }
    spec = {
        "rules": [{"hosts": [HOST], "visibility": "ExternalIP", "http": {"paths": [{"splits": [split]}]}}],
        "tls": [{"hosts": [HOST], "secretName": "own", "secretNamespace": namespace}],
    }
    cluster.api.apply(INGRESS, {"metadata": metadata, "spec": spec})

    given = json.dumps({"certificate": served, "host": HOST, "key": cluster.key})
    models = cluster.in_cluster(ASK.format(given=given))

    assert [model["id"].rpartition("/")[2] for model in models["data"]] == ["chat"]
