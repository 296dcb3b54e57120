"""What the two answer on their HTTP ports, and how each dumps itself, under the same environment and mesh.

Not compared, as the two are different programs: the admin page, profiles, the values of `/metrics`
(`test_upstream_told.py` has those of the traffic).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.interop.conftest import make_town
from tests.interop.upstream import says_hello
from tests.netns.namespaces import Network
from tests.support.nodes import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.interop.upstream import Proxy

# The first test waits for towns on both sides.
pytestmark = [pytest.mark.root, pytest.mark.upstream, pytest.mark.timeout(120)]

REQUESTS = [
    ("readiness", "GET", "/healthz/ready"),
    ("readiness", "POST", "/healthz/ready"),
    ("readiness", "GET", "/healthz/ready?verbose"),
    ("readiness", "GET", "/"),
    ("metrics", "GET", "/nothing"),
    ("metrics", "POST", "/nothing"),
    ("admin", "GET", "/nothing"),
    ("admin", "GET", "/quitquitquit"),
    ("admin", "GET", "/logging"),
    ("admin", "PUT", "/logging"),
    ("admin", "POST", "/logging"),
    ("admin", "POST", "/logging?level=bogus"),
    ("admin", "POST", "/logging?level="),
    ("admin", "POST", "/logging?nothing=1"),
    ("admin", "POST", "/logging?level=access=debug"),
    ("admin", "POST", "/logging?level=debug"),
    ("admin", "POST", "/logging?reset"),
    ("admin", "POST", "/logging?level=info"),
]
BY_METHOD = [
    ("metrics", "GET", "/metrics"),
    ("metrics", "POST", "/metrics"),
    ("metrics", "GET", "/stats/prometheus"),
    ("admin", "GET", "/config_dump"),
    ("admin", "POST", "/config_dump"),
]


class Seen(NamedTuple):
    """Of one program: its answers, those without bodies, what it says of each metric, and its dump."""

    answers: Mapping[str, object]
    heads: Mapping[str, object]
    families: list[str]
    dump: dict[str, Any]


def look(proxy: Proxy) -> Seen:
    """Ask everything, the dump first: what follows changes levels."""
    dump = json.loads(proxy.ask("GET", "/config_dump").body)
    for section in ("configs", "workloadState"):  # ours alone, in dedicated mode
        dump.pop(section, None)
    metrics = proxy.ask("GET", "/metrics", "metrics").body.decode()
    heads = {}
    for port, method, target in BY_METHOD:
        answer = proxy.ask(method, target, port)
        heads[f"{method} {target}"] = (answer.status, answer.headers["content-type"])
    answers = {}
    for port, method, target in REQUESTS:
        answer = proxy.ask(method, target, port)
        headers = {name: value for name, value in answer.headers.items() if name != "date"}
        named = f"{port} {method} {target}"
        answers[named] = (answer.status, answer.reason, headers, answer.body.decode())
    families = [
        line for line in metrics.splitlines() if line.startswith(("# HELP", "# TYPE", "# UNIT"))
    ]
    return Seen(answers, heads, families, dump)


@pytest.fixture(scope="module")
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Seen]:
    """Either one's client proxy, after one connection."""
    seen = {}
    folder = tmp_path_factory.mktemp("admin")
    for side in ("ours", "upstream"):
        # The same folder: a dump has paths in it.
        (folder / "mesh.yaml").unlink(missing_ok=True)
        with (
            Network() as network,
            make_town(request.config, f"{side}-to-{side}", network, folder) as town,
            town.running(),
        ):
            says_hello(town, town.web)
            eventually(town.near.told, "the connection's line")
            seen[side] = look(town.near)
    return seen


@pytest.mark.parametrize("named", [" ".join(request) for request in REQUESTS])
def test_an_answer_is_upstreams_to_the_last_byte_but_its_date(
    both: dict[str, Seen], named: str
) -> None:
    assert both["ours"].answers[named] == both["upstream"].answers[named]


def test_dumps_and_metrics_are_served_for_the_same_requests(both: dict[str, Seen]) -> None:
    assert both["ours"].heads == both["upstream"].heads


def test_each_metric_of_upstream_is_told_of_in_its_words_and_in_its_place(
    both: dict[str, Seen],
) -> None:
    ours, upstreams = both["ours"].families, both["upstream"].families
    assert ours[: len(upstreams)] == upstreams
    assert {line.split()[2].split("_")[0] for line in ours[len(upstreams) :]} == {"ztunnel"}


def test_the_dump_is_upstreams(both: dict[str, Seen]) -> None:
    ours, upstreams = (stable(both[side].dump) for side in ("ours", "upstream"))
    # Upstream does not know which services the workloads of a file belong to (spec/dataplane.md §20.2.14).
    of_services = [workload.pop("services", None) for workload in ours["workloads"]]
    assert [of for of in of_services if of] == [["default/web.default.svc.cluster.local"]]
    assert list(ours) == list(upstreams)
    for section, wanted in upstreams.items():
        assert ours[section] == wanted, section
        assert keys(ours[section]) == keys(wanted), section


def stable(dump: dict[str, Any]) -> dict[str, Any]:
    """Without what no two processes have in common: keys of a certificate stay, builds have one name."""
    told: dict[str, Any] = json.loads(json.dumps(dump))
    for certificate in told["certificates"]:
        for one in (*certificate["certChain"], *certificate["rootCerts"]):
            assert re.fullmatch(r"\d+", one["serialNumber"])
            for moment in ("validFrom", "expirationTime"):
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", one[moment])
            one.update(dict.fromkeys(one, "ITS OWN"))
    told["config"]["caAddress"] = "ITS OWN"
    told["config"][
        "illegalPorts"
    ].sort()  # a set: each of upstream's processes has an order of its own
    for build in ("buildStatus", "gitRevision", "version"):
        told["version"][build] = "ITS OWN"
    return told


def keys(value: Any) -> Any:
    """The names in a value, in the order in which they stand there."""
    if isinstance(value, dict):
        return [(name, keys(inner)) for name, inner in value.items()]
    if isinstance(value, list):
        return [keys(inner) for inner in value]
    return None
