"""Files that nobody could mean: `ztunnel check`, `ztunnel run` and a running node, each in its own process.

Every mistake is printed with line and column, the exit code is 1, time and memory are bounded, and a running node keeps the
mesh it has (spec/reliability.md BI-Y). Each kind of mistake by itself is tested in tests/unit/{document,local}.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import Application, SocksReply, through_socks5
from tests.support.nodes import Mesh, Node, eventually, python_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NETWORK = "127.2"
MIB = 1024 * 1024
# For the worst file there is, which takes two; a good one takes a tenth of a second, a file without a limit minutes.
SECONDS = 30.0
MEMORY = 256 * MIB

GOOD = """\
workloads:
- name: web
  namespace: default
  workloadIps: [10.0.0.1]
"""


@dataclass(frozen=True)
class Bad:
    """A file, and the places and words of each line that it must bring."""

    content: bytes
    lines: tuple[str, ...]
    """Each a pattern for `line:column: path: message`."""
    times: int = 1
    """How often the content stands in the file. A child's peak memory counts its parent's, so large ones are made late."""

    def write(self, path: Path) -> None:
        """Put it there."""
        path.write_bytes(self.content * self.times)


def text(more: str, *lines: str) -> Bad:
    return Bad((GOOD + more).encode(), lines)


def bomb() -> bytes:
    """The billion laughs: nine levels of nine."""
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]", *levels, "workloads: *a9\n"]).encode()


FILES = {
    "an unknown field": text("  colour: red\n", r'5:3: workloads\[0\](\.colour)?: .*"?colour"?'),
    "a misspelt field": text("  protocl: HBONE\n", r"5:3: .*protocl.*protocol"),
    "a list for a text": text("  network: [a, b]\n", r"5:12: workloads\[0\]\.network: "),
    "a text for a list": Bad(
        b"workloads:\n- name: web\n  namespace: default\n  workloadIps: 10.0.0.1\n",
        (r"4:16: workloads\[0\]\.workloadIps: ",),
    ),
    "an address that is none": Bad(
        b"workloads:\n- name: web\n  namespace: default\n  workloadIps: [10.0.0.1, 10.0.0.999]\n",
        (r"4:27: workloads\[0\]\.workloadIps\[1\]: .*10\.0\.0\.999",),
    ),
    "a uid twice": Bad(
        b"workloads:\n- {uid: u, name: a, namespace: d, workloadIps: [10.0.0.1]}\n"
        b"- {uid: u, name: b, namespace: d, workloadIps: [10.0.0.2]}\n",
        (r'3:\d+: workloads\[1\](\.uid)?: .*"?u"?',),
    ),
    "an unknown word": text("  protocol: QUIC\n", r"5:13: workloads\[0\]\.protocol: .*QUIC"),
    "a port that is none": Bad(
        b"services:\n- {name: w, namespace: d, hostname: w.example, vips: [/10.0.0.9], ports: {80: 70000}}\n",
        (r"2:\d+: services\[0\]\.ports.*70000",),
    ),
    "a key twice": text("  name: again\n", r'5:3: .*written twice, first on line 2: "name"'),
    "a tab": Bad(b"workloads:\n\t- name: web\n", (r"2:\d: .*tab",)),
    "nothing": Bad(b"", (r"1:1: empty",)),
    "blanks": Bad(b"\n  \n\n", (r"1:1: nothing but blanks",)),
    "a text": Bad(b"just words\n", (r"1:1: ",)),
    "not UTF-8": Bad(GOOD.encode() + b"  node: caf\xe9\n", (r"5:12: not UTF-8: byte 0xe9",)),
    "UTF-16": Bad(GOOD.encode("utf-16"), (r"1:1: not UTF-8 but UTF-16",)),
    "half a line": Bad(GOOD.encode()[:-3], (r"\d+:\d+: not YAML",)),
    "an unknown anchor": text("  node: *nobody\n", r'5:9: no anchor .*"nobody"'),
    "a second document": text("---\nworkloads: []\n", r"5:1: a second document"),
    "a Python object": text(
        "  node: !!python/object/apply:os.system [touch /tmp/never]\n", r"5:9: workloads\[0\]\.node: "
    ),
    "50 MiB of brackets": Bad(b"[", (r"1:1: larger than 16 MiB",), times=50 * MIB),
    "10 MiB of brackets": Bad(b"[", (r"1:65: nested deeper than 64 levels",), times=10 * MIB),
    "10 MiB of empty lists": Bad(b"- []\n", (r"300000:3: more than 300000 ",), times=2 * MIB),
    "an alias bomb": Bad(bomb(), (r"\d+:\d+: more than 300000 values, aliases counted in full",)),
    "several at once": text(
        "  colour: red\n  protocol: QUIC\n  workloadIps: [x]\n",
        r"5:3: .*colour",
        r"6:13: .*QUIC",
        r"7:3: .*written twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bad", FILES.values(), ids=FILES)
def test_check_prints_every_mistake_with_its_place_and_ends_with_one(
    tmp_path: Path, bad: Bad
) -> None:
    file = tmp_path / "mesh.yaml"
    bad.write(file)
    ran = ztunnel("check", str(file))
    assert ran.code == 1
    assert_lines(ran.out, file, bad.lines)
    assert len(ran.out.splitlines()) == len(bad.lines), ran.out[:2000]
    count = len(bad.lines)
    what = f"error: mesh file has {count} mistake{'' if count == 1 else 's'}: {file}\n"
    assert ran.err == what
    assert ran.seconds < SECONDS, f"{ran.seconds:.1f} s"
    assert ran.memory < MEMORY, f"{ran.memory / MIB:.0f} MiB"


def test_ten_thousand_mistakes_are_listed_in_bounded_time(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    one = "- {name: web%d, namespace: default, workloadIps: [nowhere], colour: red}\n"
    file.write_text("workloads:\n" + "".join(one % i for i in range(10_000)))
    ran = ztunnel("check", str(file))
    assert ran.code == 1
    assert ran.seconds < SECONDS, f"{ran.seconds:.1f} s"
    assert ran.memory < MEMORY, f"{ran.memory / MIB:.0f} MiB"
    assert re.match(rf"{re.escape(str(file))}:2:\d+: workloads\[0\]", ran.out)


# `run` reads with the same eyes as `check`; these are enough to see that it does.
RUN = (
    "an unknown field",
    "a uid twice",
    "nothing",
    "not UTF-8",
    "50 MiB of brackets",
    "an alias bomb",
)


@pytest.mark.parametrize("bad", [FILES[name] for name in RUN], ids=RUN)
def test_run_does_not_start_with_a_bad_mesh(tmp_path: Path, bad: Bad) -> None:
    mesh, node = tmp_path / "mesh.yaml", tmp_path / "node.yaml"
    bad.write(mesh)
    node.write_text("node: {workload: default/web, mesh: mesh.yaml, ca: {directory: ca}}\n")
    ran = ztunnel("run", str(node))
    assert ran.code == 1
    assert ran.out == ""
    assert_lines(ran.err, mesh, bad.lines)
    assert ran.seconds < SECONDS, f"{ran.seconds:.1f} s"
    assert ran.memory < MEMORY, f"{ran.memory / MIB:.0f} MiB"
    assert not (tmp_path / "ca").exists()


NODES = {
    "no workload": ("node: {ca: {directory: ca}}\n", r"1:7: node: .*workload"),
    "an unknown field": (
        "node:\n  workload: default/web\n  ca: {directory: ca}\n  lisen: {}\n",
        r"4:3: node.*lisen.*listen",
    ),
    "a port without an address": (
        "node:\n  workload: default/web\n  ca: {directory: ca}\n  listen: {inbound: 15008}\n",
        r"4:21: node\.listen\.inbound: .*15008",
    ),
    "a duration without a unit": (
        "node:\n  workload: default/web\n  ca: {directory: ca}\n  drain: 5\n",
        r"4:10: node\.drain: not a duration: 5; .*5s",
    ),
    "an endless deadline": (
        "node:\n  workload: default/web\n  ca: {directory: ca}\n  deadlines: {handshake: 9999h}\n",
        r"4:26: node\.deadlines\.handshake: not between",
    ),
    "a workload that is not there": (
        f"node:\n  workload: default/wep\n  ca: {{directory: ca}}\n{GOOD}",
        r"2:13: node\.workload: no such workload in node\.yaml: .*default/web",
    ),
}


@pytest.mark.parametrize(("content", "line"), NODES.values(), ids=NODES)
@pytest.mark.parametrize("verb", ["check", "run"])
def test_a_bad_node_file_is_refused_by_both_verbs(
    tmp_path: Path, verb: str, content: str, line: str
) -> None:
    node = tmp_path / "node.yaml"
    node.write_text(content)
    ran = ztunnel(verb, str(node))
    assert ran.code == 1
    assert_lines(ran.out if verb == "check" else ran.err, node, (line,))


DENY = {
    "name": "nobody",
    "namespace": "default",
    "scope": "Namespace",
    "action": "Allow",
    "rules": [],
}


@dataclass(frozen=True)
class Pair:
    """Two nodes with one mesh; the policy in it lets nobody in."""

    mesh: Mesh
    client: Node
    server: Node

    def outcome(self) -> str:
        """What an application is told now."""
        with Application.listen(self.server.address, 8080) as application:
            dial = lambda: through_socks5(self.client.socks5, self.server.address, 8080)  # noqa: E731
            try:
                ends = application.pair(dial)
            except SocksReply as reply:
                reply.connection.close()
                return "denied" if reply.code == 2 else f"reply {reply.code}"
            ends[0].says(b"hello")
            return "served" if ends[1].takes(5) == b"hello" else "?"

    def applied(self, policies: list[dict[str, Any]]) -> None:
        lines = [(node, len(node.log)) for node in (self.client, self.server)]
        self.mesh.policies = policies
        self.mesh.write()
        for node, after in lines:
            node.log.wait_for("mesh applied", after=after)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with Mesh(tmp_path_factory.mktemp("bad-mesh"), network=NETWORK) as mesh:
        for name in ("server", "client"):
            mesh.workload(name)
        mesh.policies = [DENY]
        with Node(mesh, "server") as server, Node(mesh, "client", socks5=True) as client:
            yield Pair(mesh, client, server)


@pytest.mark.parametrize("bad", FILES.values(), ids=FILES)
def test_a_running_node_keeps_its_mesh_and_says_why(pair: Pair, bad: Bad) -> None:
    assert pair.outcome() == "denied"
    log, after, memory = pair.server.log, len(pair.server.log), pair.server.resident()
    new = pair.mesh.path.with_suffix(".bad")
    bad.write(new)
    new.replace(pair.mesh.path)
    log.wait_for(
        "the mesh file has mistakes; the mesh stays as it is",
        after=after,
        mistakes=len(bad.lines),
        path=str(pair.mesh.path),
    )
    for line in bad.lines:
        says(pair.server, f"^{re.escape(str(pair.mesh.path))}:{line}", after=after)
    assert pair.outcome() == "denied"
    # Python gives most of it back, when it comes to it; what one bad file takes must not add up.
    eventually(
        lambda: pair.server.resident() - memory < 128 * MIB, "what the file took was given back"
    )


def test_after_every_bad_file_a_good_one_is_applied(pair: Pair) -> None:
    pair.applied([])
    assert pair.outcome() == "served"
    pair.applied([DENY])
    assert pair.outcome() == "denied"
    # A node that lost its own workload would be nobody.
    after = len(pair.server.log)
    pair.mesh.write_text("workloads: []\n")
    says(pair.server, "workloads: the workload that this node stands for is gone", after=after)
    assert pair.outcome() == "denied"


# A child's peak memory begins with its parent's. This process is large; the one between is not.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call([sys.executable, *sys.argv[2:]])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as report:
    report.write(f"{used.ru_utime + used.ru_stime} {used.ru_maxrss}")
sys.exit(code)
"""


@dataclass(frozen=True)
class Ran:
    """One run of the program."""

    code: int
    out: str
    err: str
    seconds: float
    """Of the processor, so that a busy machine is no mistake of ours."""
    memory: int
    """The most that was resident at once, in bytes."""


def ztunnel(*arguments: str) -> Ran:
    """Runs the program to its end."""
    with tempfile.NamedTemporaryFile("r") as usage:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, usage.name, "-m", "ztunnel", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": python_path()},
            check=False,
        )
        seconds, kibibytes = usage.read().split()
        ran = Ran(
            code=done.returncode,
            out=done.stdout.decode(),
            err=done.stderr.decode(),
            seconds=float(seconds),
            memory=int(kibibytes) * 1024,
        )
    assert "Traceback" not in ran.err, ran.err
    return ran


def assert_lines(output: str, file: Path, lines: tuple[str, ...]) -> None:
    """Every mistake is there, with its place, in the order of the file."""
    found = output.splitlines()
    for line in lines:
        pattern = re.compile(f"{re.escape(str(file))}:{line}")
        assert any(pattern.match(one) for one in found), (
            f"{pattern.pattern} is not in:\n{output[:2000]}"
        )


def says(node: Node, pattern: str, *, after: int) -> None:
    """Waits for a line of the node's log whose message fits."""

    def said() -> bool:
        lines = node.log.all()[after:]
        return any(re.search(pattern, str(line["message"])) for line in lines)

    eventually(said, f"the log says {pattern}")
