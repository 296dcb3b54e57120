"""A real proxy under a control plane of the test's own: what a policy allows, and what it cuts when it changes.

    pip install ztunnel pytest && pytest test_policy.py

One workload, `web`, that its proxy reaches through a tunnel to itself: SOCKS5 in, HBONE between, the application out.
Needs the proxy's ports (15000 to 15080) on this machine. See docs/guides/testing.md.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from ztunnel.testing.istiod import mesh

APPLICATION = ("127.0.0.1", 8080)
SOCKS5 = ("127.0.0.1", 15080)
DEADLINE = 10.0


@pytest.fixture
def application():
    """Echoes what it is told, one connection at a time."""

    def serve():
        try:
            while True:
                connection, _ = listening.accept()
                with connection:
                    while data := connection.recv(65536):
                        connection.sendall(data)
        except OSError:
            pass  # the test is over

    with socket.create_server(APPLICATION) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(DEADLINE)


@pytest.fixture
def proxy(istiod):
    """`ztunnel proxy ztunnel`, in sync with the control plane and certified by it."""
    istiod.put(mesh.workload("web", ip="127.0.0.1"))
    environment = {
        "PROXY_MODE": "dedicated",
        "PROXY_WORKLOAD_INFO": "default/web/web",
        "UNSTABLE_ENABLE_SOCKS5": "true",
        "IPV6_ENABLED": "false",
        **istiod.environment("web", namespace="default", account="web"),
    }
    command = [sys.executable, "-m", "ztunnel", "proxy", "ztunnel"]
    with subprocess.Popen(command, env={**os.environ, **environment}) as process:
        istiod.synced()
        yield
        process.terminate()
        process.wait(DEADLINE)


def connect():
    """An application's connection, by way of the proxy."""
    connection = socket.create_connection(SOCKS5, DEADLINE)
    connection.sendall(b"\x05\x01\x00")
    connection.recv(2)
    host, port = APPLICATION
    connection.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(host) + port.to_bytes(2, "big"))
    answer = connection.recv(10)
    if answer[1] != 0:
        connection.close()
        raise ConnectionRefusedError(f"SOCKS5 says {answer[1]}")
    return connection


def test_a_policy_cuts_what_it_forbids(istiod, proxy, application):
    with closing(connect()) as connection:
        connection.sendall(b"hello")
        assert connection.recv(65536) == b"hello"
        istiod.put(mesh.policy("no-web", deny=True, ports=[8080]))
        istiod.answered()
        # What is open ends, and nothing new begins.
        with pytest.raises(ConnectionResetError):
            connection.recv(65536)
    with pytest.raises(OSError, match=r"SOCKS5 says|reset"):
        connect()


def test_an_allowed_caller_is_let_through(istiod, proxy, application):
    istiod.put(mesh.policy("only-web", principals=["cluster.local/ns/default/sa/web"]))
    istiod.answered()
    with closing(connect()) as connection:
        connection.sendall(b"it is me")
        assert connection.recv(65536) == b"it is me"
