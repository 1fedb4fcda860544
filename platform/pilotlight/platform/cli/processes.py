"""`pilotlight operator` and `pilotlight activator`: the processes of a platform in a cluster."""

from __future__ import annotations

import asyncio

from pilotlight.platform.cli.errors import REFUSED, CommandError


def operator() -> None:
    """Run the control plane of a cluster.

    It watches functions, scales them and serves the API; of several, one leads.

    Its settings are environment variables; docs/kubernetes.md lists them.
    """
    from pilotlight.platform.kubernetes.errors import KubernetesError
    from pilotlight.platform.kubernetes.operator import LostError, serve
    from pilotlight.platform.kubernetes.settings import OperatorSettings, read
    from pilotlight.platform.logging import log_to_stderr
    from pilotlight.platform.settings import SettingsError

    log_to_stderr()
    try:
        asyncio.run(serve(read(OperatorSettings)))
    except SettingsError as error:
        raise CommandError(str(error), code=REFUSED) from error
    except LostError as error:
        raise CommandError("another operator may lead now; this one starts again") from error
    except KubernetesError as error:
        raise CommandError(str(error)) from error


def activator() -> None:
    """Run the data plane of a cluster.

    It holds requests, sends them to pods and meters them; run several.

    Its settings are environment variables; docs/kubernetes.md lists them.
    """
    import uvloop

    from pilotlight.platform.edge.gateway import serve
    from pilotlight.platform.kubernetes.errors import KubernetesError
    from pilotlight.platform.kubernetes.settings import ActivatorSettings, read
    from pilotlight.platform.logging import log_to_stderr
    from pilotlight.platform.settings import SettingsError

    log_to_stderr()
    try:
        uvloop.run(serve(read(ActivatorSettings)))
    except SettingsError as error:
        raise CommandError(str(error), code=REFUSED) from error
    except (KubernetesError, OSError) as error:
        raise CommandError(str(error)) from error
