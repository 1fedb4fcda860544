"""`python -m pilotlight.platform.install.bucket NAME`: wait for the S3 server, make the bucket where it is missing."""

from __future__ import annotations

import sys
import time

from pilotlight.runtime.stores.errors import StoreDeniedError, StoreError
from pilotlight.runtime.stores.s3 import S3Options, S3Store

PATIENCE_SECONDS = 300.0
PAUSE_SECONDS = 1.0


def main() -> None:
    store = S3Store(sys.argv[1], S3Options.from_environment())
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            store.ensure_bucket()
        except StoreError as error:
            # Whoever is refused now is refused later.
            if isinstance(error, StoreDeniedError) or time.monotonic() > deadline:
                sys.exit(f"error: {error}")
            time.sleep(PAUSE_SECONDS)
        else:
            print(f"the bucket {sys.argv[1]} is there")
            return


if __name__ == "__main__":
    main()
