"""`python -m bench.pure_python certs | serve | connect`: one process per end.

    python -m bench.pure_python certs target/pki server client
    python -m bench.pure_python serve --certs target/pki/server --listen 127.0.0.1:15008
    python -m bench.pure_python connect --certs target/pki/client --peer 127.0.0.1:15008 \\
        --expect spiffe://cluster.local/ns/default/sa/server --authority 127.0.0.1:8080 \\
        --listen 127.0.0.1:9000

Both ends print `ready ADDRESS` when they listen, and stop on SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from pathlib import Path

from bench.pure_python.client import Client
from bench.pure_python.identity import Credentials
from bench.pure_python.server import Server


def main() -> None:
    """Parse the command line and run one end."""
    options = _parser().parse_args()
    logging.basicConfig(level=options.log.upper(), format="%(levelname)s %(message)s")
    if options.verb == "certs":
        _write_certificates(options.folder, options.accounts, options.trust_domain)
        return
    asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> None:
    certs: Path = options.certs
    credentials = Credentials(
        chain=certs / "chain.pem", key=certs / "key.pem", roots=certs / "roots.pem"
    )
    end: Client | Server
    if options.verb == "serve":
        end = Server(
            credentials=credentials, trust_domain=options.trust_domain, listen=options.listen
        )
    else:
        end = Client(
            credentials=credentials,
            peer=options.peer,
            expected=options.expect,
            authority=options.authority,
            listen=options.listen,
        )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with end:
        print(f"ready {options.listen[0]}:{end.port}", flush=True)
        await stop.wait()
        if isinstance(end, Server):
            await end.drain(options.drain)


def _write_certificates(folder: Path, accounts: list[str], trust_domain: str) -> None:
    from bench.pure_python.certs import Authority  # the proxies themselves run without it

    authority = Authority()
    for account in accounts:
        name = f"spiffe://{trust_domain}/ns/default/sa/{account}"
        authority.issue(folder / account, name)
        print(f"{folder / account}: {name}")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got `{text}`")
    return host.strip("[]"), int(port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.pure_python",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--log", default="warning", metavar="LEVEL")
    verbs = parser.add_subparsers(dest="verb", required=True)

    certs = verbs.add_parser("certs", help="make a throw-away CA and one leaf per service account")
    certs.add_argument("folder", type=Path)
    certs.add_argument("accounts", nargs="+")
    certs.add_argument("--trust-domain", default="cluster.local")

    serve = verbs.add_parser("serve", help="TLS listener: CONNECT requests to applications")
    serve.add_argument("--trust-domain", default="cluster.local")
    serve.add_argument("--drain", type=float, default=5.0, metavar="SECONDS")

    connect = verbs.add_parser("connect", help="local port: its connections go through the tunnel")
    connect.add_argument("--peer", type=_address, required=True, metavar="HOST:PORT")
    connect.add_argument("--authority", required=True, metavar="HOST:PORT")
    connect.add_argument("--expect", action="append", required=True, metavar="SPIFFE-ID")

    for verb in (serve, connect):
        verb.add_argument("--certs", type=Path, required=True, metavar="FOLDER")
        verb.add_argument("--listen", type=_address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    return parser


if __name__ == "__main__":
    main()
