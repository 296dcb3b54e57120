"""What is looked up on the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ztunnel.environment.machine import look_around
from ztunnel.environment.proxyconfig import MESH_CONFIG


@pytest.fixture
def mesh_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path(MESH_CONFIG)
    path.parent.mkdir(parents=True)
    return path


def test_a_mesh_config_is_read_from_where_we_were_started(mesh_config: Path) -> None:
    assert look_around().mesh_config is None
    mesh_config.write_text("defaultConfig: {statsPort: 1}\n")
    assert look_around().mesh_config == b"defaultConfig: {statsPort: 1}\n"


def test_a_mesh_config_that_is_there_and_cannot_be_read_ends_the_start(mesh_config: Path) -> None:
    os.mkfifo(mesh_config)
    with pytest.raises(OSError, match="not a regular file"):
        look_around()


def test_a_machine_has_cores_and_a_way_to_resolve_names() -> None:
    machine = look_around()
    assert machine.cores == len(os.sched_getaffinity(0))
    assert isinstance(machine.loopback_ipv6, bool)
    assert isinstance(machine.resolv_conf, str)
