"""`ztunnel proxy`: a proxy told by upstream's environment variables, until a signal ends it."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ztunnel.cli.failure import or_failure

if TYPE_CHECKING:
    import argparse
    import logging
    from collections.abc import Callable, Mapping

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
        "  XDS_ADDRESS=istiod.istio-system.svc:15012           delivers the mesh (delta ADS); empty: nobody does\n"
        "  XDS_ROOT_CA=root-cert.pem                           whom to believe there; or SYSTEM\n"
        "  LOCAL_XDS_PATH=mesh.yaml                            workloads, services, policies of a file, beside or instead\n"
        "  CA_ADDRESS=istiod.istio-system.svc:15012            signs certificates (istio.v1.auth)\n"
        "  CA_ROOT_CA=root-cert.pem                            whom to believe there; or SYSTEM\n"
        "  AUTH_TOKEN=token                                    a file, or the token itself\n"
        "FAKE_CA=true stands for the CA's, to try things out: a root that no other process trusts.\n"
        "Listens on 15001 (redirected traffic), 15006 (the same on its way in), 15008 (HBONE), 15020 (metrics),\n"
        "15021 (readiness), and on 15000 of the loopback addresses (admin: `istioctl ztunnel-config`).\n"
        "SIGTERM, SIGINT or `POST /quitquitquit` on 15000 drains and ends it; a SIGINT after that ends it at once.\n"
        "Further arguments are ignored."
    )
    parser.add_argument(
        "--log-template",
        choices=("envoy",),  # `settings.TEMPLATES`, which takes its time to load
        help="of the access log's lines: as Envoy's under Istio, each beginning with `[` (default: upstream's)",
    )
    parser.add_argument("ignored", nargs="*", help="ignored, as upstream does")


def run(arguments: argparse.Namespace) -> int:
    """Runs the proxy; 1 if it cannot start."""
    return or_failure(lambda: _serve(os.environ, arguments), hint=_hint(os.environ))


def _hint(environ: Mapping[str, str]) -> str:
    """For whoever called the program without a word and meant something else."""
    from ztunnel.environment.meant import is_meant

    return "" if is_meant(environ) else "; `ztunnel help` lists what else there is"


def _serve(environ: Mapping[str, str], arguments: argparse.Namespace) -> int:
    import asyncio
    import logging

    from ztunnel.app import Node, real_parts
    from ztunnel.cli.secrets import keep_out
    from ztunnel.environment.machine import look_around
    from ztunnel.environment.mesh import load_mesh
    from ztunnel.environment.proxy import read_environment
    from ztunnel.telemetry.log import set_up

    settings = read_environment(environ, look_around(), arguments.argv)
    # Standard output, as upstream: whoever collects its log finds all lines in one place.
    set_up(
        style="json" if settings.config.log_format == "json" else "plain",
        level=settings.node.log_level,
        stream=sys.stdout,
    )
    # Upstream's first lines have no narrower target.
    _introduce(logging.getLogger("ztunnel"), settings, environ)
    mesh, identity = load_mesh(settings)
    keep_out()
    settings_of_node = settings.node_of(identity)
    access_log = settings_of_node.access_log.in_template(arguments.log_template)
    node = Node(
        replace(settings_of_node, access_log=access_log),
        identity,
        mesh,
        real_parts(),
        service_account=settings.workload.service_account,
        started=STARTED,
        sections=_sections(settings, environ),
    )
    return asyncio.run(node.run())


def _sections(
    settings: ProxySettings, environ: Mapping[str, str]
) -> dict[str, Callable[[], object]]:
    """What only the environment knows of `/config_dump`."""
    from ztunnel.environment.dump import config_section
    from ztunnel.environment.table import META_ISTIO_VERSION
    from ztunnel.version import build_info

    istio_version = environ.get(META_ISTIO_VERSION.name)
    return {
        "config": lambda: config_section(settings.config),
        "version": lambda: build_info(istio_version),
    }


def _introduce(log: logging.Logger, settings: ProxySettings, environ: Mapping[str, str]) -> None:
    """What runs here, with which limits and settings, and what of them is not so."""
    from ztunnel.environment.dump import as_yaml, config_section
    from ztunnel.environment.table import META_ISTIO_VERSION
    from ztunnel.fields import SEVERAL_LINES
    from ztunnel.version import build_info, one_line

    log.info("version: %s", one_line(build_info(environ.get(META_ISTIO_VERSION.name))))
    _raise_descriptor_limit(log)
    config = as_yaml(config_section(settings.config))
    log.info("running with config: %s", config, extra={SEVERAL_LINES: True})
    for complaint in settings.complaints:
        log.error(complaint)
    if settings.not_built:
        names = " ".join(settings.not_built)
        log.warning("without effect, as they are not built yet: %s", names)
    if settings.config.certificates.fake:
        log.warning(
            "FAKE_CA=true: certificates are signed by a root that this process made for itself; "
            "no other process trusts them; not for production"
        )
    if settings.config.tls.policy == "pqc" and not settings.config.certificates.fake:
        log.warning(
            "COMPLIANCE_POLICY=pqc holds between proxies; "
            "the connection to the CA uses the groups that OpenSSL agrees on with it"
        )


def _raise_descriptor_limit(log: logging.Logger) -> None:
    """Every connection needs two; what an account may have, it gets."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("failed to set file descriptor limits: %s", error)
    else:
        log.info("set file descriptor limits from %d to %d", soft, hard)
