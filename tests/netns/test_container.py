"""A proxy in the container that the Helm chart makes for it (spec/istio.md A1, A5 rows 1, 2 and 16).

Nothing of a container engine: a mount namespace with a root that cannot be written to, the chart's capabilities and
group, `/` as the working directory, secrets where relative paths find them, the chart's environment and arguments. Two
variables are beside the chart's, as its mode, one proxy for all pods of a node, is not built yet.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.netns.namespaces import Namespace
from tests.support.http import ask
from tests.support.nodes import START_DEADLINE
from ztunnel.testing.istiod import mesh
from ztunnel.testing.istiod.child import ChildIstiod

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

ADDRESS = "127.0.0.1"
READY, ADMIN, STATS = 15021, 15000, 15020
# `/var/run/secrets` is the only thing that is not the machine's; the rest of `/` is as it is and cannot be written to.
CONTAINER = """\
run=$(readlink -f /var/run)
mount -t tmpfs none "$run"
mkdir -p "$run/secrets"
cp -rL "$SECRETS"/. "$run/secrets"
mount -o remount,bind,ro "$run"
mount -o remount,bind,ro /
cd /
exec setpriv --bounding-set=-all,+net_admin,+sys_admin,+net_raw --inh-caps=-all --regid 1337 --clear-groups "$@"
"""


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A pod's."""
    made = Namespace("container")
    yield made
    made.close()


@contextmanager
def container(
    namespace: Namespace, secrets: Path, log: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """`ztunnel proxy ztunnel` in it, until the end of the block."""
    program = shutil.which("ztunnel", path=str(Path(sys.executable).parent))
    assert program is not None, "the package's command is not installed beside the interpreter"
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", CONTAINER, "sh"]
    with log.open("wb") as out:
        process = namespace.call(
            subprocess.Popen,
            [*words, program, "proxy", "ztunnel"],
            env={"PATH": os.environ["PATH"], "SECRETS": str(secrets), **environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def chart(istiod: str, pod: str) -> dict[str, str]:
    """A1.2, for one pod."""
    return {
        "CA_ADDRESS": istiod,
        "XDS_ADDRESS": istiod,
        "RUST_LOG": "info",
        "RUST_BACKTRACE": "1",
        "ISTIO_META_CLUSTER_ID": "Kubernetes",
        "INPOD_ENABLED": "true",
        "TERMINATION_GRACE_PERIOD_SECONDS": "30",
        "POD_NAME": pod,
        "POD_NAMESPACE": "istio-system",
        "NODE_NAME": "node-a",
        "INSTANCE_IP": ADDRESS,
        "SERVICE_ACCOUNT": "ztunnel",
        "ISTIO_META_ENABLE_HBONE": "true",
        "ZTUNNEL_CPU_LIMIT": "4",
        "CRL_PATH": "/var/run/secrets/istio/crl/ca-crl.pem",
        # As the image sets them.
        "ISTIO_META_ISTIO_VERSION": "1.30.0",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Not the chart's.
        "PROXY_MODE": "dedicated",
        "PROXY_WORKLOAD_INFO": "istio-system/ztunnel-x/ztunnel",
        "ISTIO_META_DNS_CAPTURE": "false",
    }


def get(namespace: Namespace, port: int, path: str) -> tuple[int, str, float]:
    """Status, text and how long it took."""
    begin = time.monotonic()
    answered = namespace.call(ask, (ADDRESS, port), "GET", path)
    return answered.status, answered.body.decode(), time.monotonic() - begin


def until_ready(namespace: Namespace, process: subprocess.Popen[bytes], log: Path) -> None:
    """As the kubelet asks: 200, or not yet."""
    deadline = time.monotonic() + START_DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            status, _, _ = get(namespace, READY, "/healthz/ready")
        except OSError:
            status = 0
        if status == 200:
            return
        time.sleep(0.02)
    pytest.fail(f"not ready (exit code {process.poll()}):\n{log.read_text()[-3000:]}")


def test_a5_1_and_2_it_runs_where_the_chart_puts_it(namespace: Namespace, tmp_path: Path) -> None:
    istiod = ChildIstiod(tmp_path)
    namespace.call(istiod.start)
    try:
        us = mesh.workload(
            "ztunnel-x", namespace="istio-system", account="ztunnel", ip=ADDRESS, node="node-a"
        )
        istiod.put(us)
        istiod.environment("ztunnel-x")
        log = tmp_path / "log"
        environment = chart(istiod.address, "ztunnel-x")
        with container(namespace, tmp_path / "ztunnel-x", log, environment) as process:
            until_ready(namespace, process, log)
            status, dump, _ = get(namespace, ADMIN, "/config_dump")
            assert status == 200
            assert "Kubernetes//Pod/istio-system/ztunnel-x" in dump
            assert '"istioVersion": "1.30.0"' in dump
            assert '"selfTerminationDeadline": {\n      "nanos": 0,\n      "secs": 25' in dump
            _, stats, _ = get(namespace, STATS, "/stats/prometheus")
            assert 'istio_build{component="ztunnel",tag="1.30.0"} 1' in stats
            # The probe's own deadline is a second; a machine's bad moment may be longer, the half of them is ours.
            probes = sorted(get(namespace, READY, "/healthz/ready")[2] for _ in range(50))
            assert probes[25] < 1.0
            process.terminate()
            assert process.wait(30) == 0
        said = log.read_text()
        assert "INPOD_ENABLED" not in said
        assert "Read-only file system" not in said
        assert "Traceback" not in said
    finally:
        istiod.kill()
