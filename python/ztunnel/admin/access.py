"""Who may ask for what (spec/reliability.md U12, T32). Pure.

The port is on the loopback addresses only, but a browser on the same machine is there too: a page that somebody
reads must neither read ours by a name of its own that leads to 127.0.0.1, nor change anything here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ztunnel import spelling
from ztunnel.admin.messages import Answer, plain

if TYPE_CHECKING:
    from ztunnel.admin.messages import Request


def refusal(request: Request) -> Answer | None:
    """Why this request is not answered; None if it may be.

    `istioctl` and `kubectl port-forward` come as `localhost:PORT`, `curl` in a pod as whatever it was given.
    """
    host = request.host
    if host is not None and not _is_loopback(host):
        return plain(403, "refused: ask by localhost or a loopback address, not by another name\n")
    changes = request.method not in READING or request.path.startswith(COSTLY)
    if changes and _is_from_a_page(request):
        return plain(403, "refused: a page in a browser must not change anything here\n")
    return None


def _is_loopback(host: str) -> bool:
    name = _without_port(host.strip().lower())
    return name in {"localhost", "localhost."} or spelling.is_loopback(name)


def _without_port(host: str) -> str:
    if host.startswith("["):
        address, bracket, port = host[1:].partition("]")
        return address if bracket and (not port or _is_port(port)) else ""
    name, _, port = host.partition(":")
    return name if not port or _is_port(f":{port}") else ""


def _is_port(text: str) -> bool:
    return text[0] == ":" and (len(text) == 1 or (text[1:].isascii() and text[1:].isdigit()))


def _is_from_a_page(request: Request) -> bool:
    """Browsers name the page's origin with every request that could change something."""
    site = request.header("sec-fetch-site")
    return request.header("origin") is not None or site not in (None, "none", "same-origin")


# A GET here takes processor time, or switches tracing on as upstream's does (spec/reliability.md U12).
COSTLY = "/debug/"
# RFC 9110 §9.2.1
READING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
