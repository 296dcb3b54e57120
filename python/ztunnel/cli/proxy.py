"""`ztunnel proxy`: a proxy told by upstream's environment variables, until a signal ends it."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from ztunnel import __version__
from ztunnel.cli.failure import or_failure
from ztunnel.fields import fields

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ztunnel.environment.proxy import ProxySettings

# As near to the start of the program as Python lets us look.
STARTED = time.monotonic()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None that mean anything: `ztunnel proxy ztunnel` is what the Helm chart runs."""
    parser.epilog = (
        "example:\n"
        "  ztunnel proxy ztunnel\n\n"
        "Everything comes from the environment, under upstream's names. For a dedicated proxy, at least:\n"
        "  PROXY_MODE=dedicated\n"
        "  PROXY_WORKLOAD_INFO=namespace/name/serviceaccount   the workload that it stands for\n"
        "  XDS_ADDRESS=                                        no control plane yet: the mesh is a file\n"
        "  LOCAL_XDS_PATH=mesh.yaml                            workloads, services, policies\n"
        "  CA_ADDRESS=istiod.istio-system.svc:15012            signs certificates (istio.v1.auth)\n"
        "  CA_ROOT_CA=root-cert.pem                            whom to believe there; or SYSTEM\n"
        "  AUTH_TOKEN=token                                    a file, or the token itself\n"
        "Listens on 15001 (redirected traffic), 15006 (the same on its way in), 15008 (HBONE), 15020 (metrics),\n"
        "15021 (readiness).\n"
        "SIGTERM or SIGINT drains and ends it; a second one ends it at once. Further arguments are ignored."
    )
    parser.add_argument("ignored", nargs="*", help="ignored, as upstream does")


def run(arguments: argparse.Namespace) -> int:
    """Runs the proxy; 1 if it cannot start."""
    del arguments
    return or_failure(lambda: _serve(os.environ))


def _about(settings: ProxySettings) -> dict[str, dict[str, object]]:
    """What the data plane is not told."""
    from ztunnel.settings import IstioCaSettings

    mesh = "inline" if isinstance(settings.mesh, str) else settings.mesh
    ca = settings.node.ca
    endpoint = ca.endpoint if isinstance(ca, IstioCaSettings) else None
    return fields(ca=endpoint, mesh=mesh, node=settings.node_name, drain_s=settings.node.drain)


def _serve(environ: Mapping[str, str]) -> int:
    import asyncio
    import logging

    from ztunnel.app import Node, real_parts
    from ztunnel.environment.mesh import load_mesh
    from ztunnel.environment.proxy import read_environment
    from ztunnel.telemetry.log import set_up

    settings = read_environment(environ, cores=len(os.sched_getaffinity(0)))
    # Standard output, as upstream: whoever collects its log finds all lines in one place.
    set_up(
        style="json" if settings.log_format == "json" else "plain",
        level=settings.node.log_level,
        stream=sys.stdout,
    )
    log = logging.getLogger(__name__)
    log.info("version: %s", __version__, extra=fields(mode="dedicated"))
    native = settings.node.to_native(settings.service_account).decode()
    log.info("running with config: %s", native, extra=_about(settings))
    if settings.not_built:
        names = " ".join(settings.not_built)
        log.warning("without effect, as they are not built yet: %s", names)
    mesh, identity = load_mesh(settings)
    node = Node(settings.node, identity, mesh, real_parts(), started=STARTED)
    return asyncio.run(node.run())
