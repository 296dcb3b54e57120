"""HAProxy as a subject: a TLS connection for each connection, both sides authenticated. Not HBONE.

It stands for what a mature proxy in C needs without any multiplexing; it can only be paired with itself.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from bench.macro import machine, mesh
from bench.macro.peers import Proxy, Site, launch, listening

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Without resumption and tickets: a mesh proxy checks its peer's certificate on each connection.
COMMON = """\
global
    nbthread {workers}
    maxconn 8000
    tune.ssl.default-dh-param 2048
    ssl-default-bind-ciphersuites TLS_AES_256_GCM_SHA384
    ssl-default-server-ciphersuites TLS_AES_256_GCM_SHA384
    ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
    ssl-default-server-options ssl-min-ver TLSv1.3 no-tls-tickets
defaults
    mode tcp
    timeout connect 10s
    timeout client 10m
    timeout server 10m
    maxconn 8000
"""
NEAR = """\
frontend outbound
    bind 0.0.0.0:{outbound} backlog 4096
    default_backend server
backend server
    server far {far}:{hbone} ssl crt {pem} ca-file {root} verify required no-ssl-reuse
"""
FAR = """\
frontend inbound
    bind 0.0.0.0:{hbone} backlog 4096 ssl crt {pem} ca-file {root} verify required
    default_backend application
backend application
    server app {far}:{application}
"""
PLACES = {
    "outbound": mesh.OUTBOUND_PORT,
    "hbone": mesh.HBONE_PORT,
    "far": mesh.FAR_ADDRESS,
    "application": mesh.APPLICATION_PORT,
}


@dataclass(frozen=True, kw_only=True)
class Haproxy:
    """The program of the Debian package."""

    program: str
    name: str = "haproxy"

    def about(self) -> str:
        """Its version."""
        return machine.version((self.program,), "-v")

    @classmethod
    def find(cls) -> Self:
        """On the path, or where Debian puts it."""
        program = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        if program is None:
            raise ValueError("--with haproxy needs the program: apt-get install haproxy")
        return cls(program=program)

    def start(self, place: mesh.Place, site: Site, folder: Path, more: Mapping[str, str]) -> Proxy:
        """Write the configuration, start, wait until it accepts."""
        near = place is mesh.NEAR
        chain, key, root = site.authority.credentials(place.identity, folder / "certs")
        pem = folder / "certs" / "both.pem"
        pem.touch(mode=0o600)
        pem.write_bytes(chain.read_bytes() + key.read_bytes())
        file = folder / "haproxy.cfg"
        text = (COMMON + (NEAR if near else FAR)).format(
            pem=pem, root=root, workers=site.workers, **PLACES
        )
        file.write_text(text)
        namespace = site.bed.at(place)
        begin = time.monotonic()
        words = (self.program, "-db", "-f", str(file))
        proxy = launch(words, namespace, place, folder, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        port = mesh.OUTBOUND_PORT if near else mesh.HBONE_PORT
        return proxy.wait(namespace, listening(port), begin)
