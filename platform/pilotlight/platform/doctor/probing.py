"""`python -m pilotlight.platform.doctor.probing BUCKET`: what this pod can reach, as one line of JSON.

Runs in the cluster, with the Secrets of the platform's own processes; says what failed and never with which values.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import islice

from pilotlight.platform.database.connection import DatabaseError, ping
from pilotlight.runtime.stores.errors import StoreError
from pilotlight.runtime.stores.s3 import S3Options, S3Store


def main() -> None:
    print(json.dumps({"s3": s3(sys.argv[1]), "database": database(os.environ["PILOTLIGHT_DATABASE_URL"])}))


def s3(bucket: str) -> str:
    """What is wrong; empty: its objects can be listed."""
    try:
        list(islice(S3Store(bucket, S3Options.from_environment()).list(), 1))
    except StoreError as error:
        return str(error)
    return ""


def database(url: str) -> str:
    """What is wrong; empty: it answers."""
    try:
        ping(url)
    except DatabaseError as error:
        return error.cause.strip().partition("\n")[0]
    return ""


if __name__ == "__main__":
    main()
