"""An image as an archive without the layers that its receiver has: seconds instead of minutes for a change of the code.

    python tests/images/thin.py IMAGE ARCHIVE KNOWN

writes the OCI archive of an image of buildah's. KNOWN is a file with the digests that are there already, one a line, as
containerd lists them (`ctr --namespace k8s.io content ls --quiet`). With an empty file the archive is whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def main(image: str, archive: str, known: str) -> None:
    push = ["buildah", "push", "--quiet", image, f"docker-archive:/dev/stdout:{image}"]
    with subprocess.Popen(push, stdout=subprocess.PIPE) as process, tarfile.open(archive, "w") as out:
        assert process.stdout is not None
        thin(process.stdout, out, image, frozenset(Path(known).read_text().split()))
    if process.returncode:
        sys.exit(f"buildah push of {image} ended with {process.returncode}")


def thin(archive: IO[bytes], out: tarfile.TarFile, image: str, known: frozenset[str]) -> None:
    """Copy a docker-archive, whose layers are named by their digests, as an OCI archive without the known ones."""
    sizes: dict[str, int] = {}
    config = b""
    with tarfile.open(fileobj=archive, mode="r|") as whole:
        for member in whole:
            stem, _, suffix = member.name.rpartition(".")
            if not member.isfile() or "/" in member.name:
                continue
            file = whole.extractfile(member)
            assert file is not None
            if suffix == "tar":
                sizes[f"sha256:{stem}"] = member.size
                if f"sha256:{stem}" not in known:
                    _copy(out, f"blobs/sha256/{stem}", member.size, file)
            elif suffix == "json" and member.name != "manifest.json":
                config = file.read()
    _finish(out, image, config, sizes)


def _finish(out: tarfile.TarFile, image: str, config: bytes, sizes: Mapping[str, int]) -> None:
    layers = [_described(_LAYER, digest, sizes[digest]) for digest in json.loads(config)["rootfs"]["diff_ids"]]
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": _blob(out, _CONFIG, config), "layers": layers}
    described = _blob(out, _MANIFEST, json.dumps(manifest).encode())
    index = {"schemaVersion": 2, "manifests": [described | {"annotations": {"io.containerd.image.name": image}}]}
    for name, value in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", index)):
        data = json.dumps(value).encode()
        _copy(out, name, len(data), io.BytesIO(data))


def _blob(out: tarfile.TarFile, kind: str, data: bytes) -> dict[str, object]:
    digits = hashlib.sha256(data).hexdigest()
    _copy(out, f"blobs/sha256/{digits}", len(data), io.BytesIO(data))
    return _described(kind, f"sha256:{digits}", len(data))


def _described(kind: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest, "size": size}


def _copy(out: tarfile.TarFile, name: str, size: int, data: IO[bytes]) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = size
    out.addfile(entry, data)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python tests/images/thin.py IMAGE ARCHIVE KNOWN")
    main(*sys.argv[1:])
