"""`/etc/resolv.conf` as `config` of `/config_dump` shows it: for information, as upstream's library keeps it.

Only shown: who resolves names reads the file by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ztunnel.spelling import is_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ztunnel.document.checks import Json


def resolver_config(text: str) -> dict[str, Json]:
    """Whom to ask, and where to search."""
    domain: str | None = None
    search: list[Json] = []
    servers: list[Json] = []
    for key, values in _lines(text):
        if key == "nameserver" and is_address(values[0]) and len(servers) < MAX_SERVERS:
            servers.append(_server(values[0]))
        elif key == "domain":
            domain = values[0]
        elif key == "search":
            search = list(values)  # the last line of its kind counts: resolv.conf(5)
    return {"domain": domain, "search": search, "name_servers": servers}


def resolver_options(text: str, *, ipv6: bool) -> dict[str, Json]:
    """How to ask: `options` of the file over upstream's defaults."""
    options = {
        name: int(number)
        for key, values in _lines(text)
        if key == "options"
        for name, colon, number in (value.partition(":") for value in values)
        if colon and number.isascii() and number.isdecimal() and len(number) < MAX_DIGITS
    }
    return {
        "ndots": options.get("ndots", 1),
        "timeout": options.get("timeout", 5),
        "attempts": options.get("attempts", 2),
        "edns0": False,
        "ip_strategy": "Ipv4AndIpv6" if ipv6 else "Ipv4Only",
        "cache_size": 4096,
        "use_hosts_file": "Auto",
        "positive_min_ttl": None,
        "negative_min_ttl": None,
        "positive_max_ttl": None,
        "negative_max_ttl": None,
        "num_concurrent_reqs": 2,
        "max_active_requests": 32,
        "preserve_intermediates": True,
        "try_tcp_on_error": False,
        "server_ordering_strategy": "QueryStatistics",
        "recursion_desired": True,
        "avoid_local_udp_ports": [],
        "os_port_selection": False,
        "case_randomization": False,
        "trust_anchor": None,
        "allow_answers": [],
        "deny_answers": [],
        "edns_payload_len": 1232,
    }


def _lines(text: str) -> Iterator[tuple[str, list[str]]]:
    """`key value…` of each line that says something."""
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if len(words) > 1:
            yield words[0], words[1:]


def _server(ip: str) -> dict[str, Json]:
    connections: list[Json] = [
        {"port": 53, "protocol": {"type": protocol}, "bind_addr": None}
        for protocol in ("udp", "tcp")
    ]
    return {"ip": ip, "trust_negative_responses": True, "connections": connections}


# As the C library: further ones are not asked (resolv.conf(5), MAXNS).
MAX_SERVERS = 3
MAX_DIGITS = 10
