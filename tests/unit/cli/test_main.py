"""The command line: verbs, help, exit codes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ztunnel import __version__
from ztunnel.cli import VERBS, main
from ztunnel.environment.meant import TELLING

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    assert f"example:\n  ztunnel {verb}" in capsys.readouterr().out


@pytest.fixture(autouse=True)
def not_meant_for_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TELLING:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("word", ["--help", "help"])
def test_help_lists_every_verb(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([word])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for verb, summary in VERBS.items():
        assert f"{verb} " in out
        assert summary in out


@pytest.mark.parametrize(
    "argv", [[], ["nonsense"], ["run"], ["check"], ["run", "x", "y"], ["version", "x"]]
)
def test_what_is_not_understood_ends_with_two(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: ztunnel" in capsys.readouterr().err


def test_check_lists_every_mistake_and_ends_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("workloads: [x]\npolicy: []\n")
    assert main(["check", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{path}:1:13: workloads[0]: not a mapping: x",
        f'{path}:2:1: unknown field: "policy"; did you mean "policies"?',
    ]
    assert err == f"error: mesh file has 2 mistakes: {path}\n"


def test_check_goes_on_after_a_bad_file(examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = examples / "two_hosts.yaml"
    assert main(["check", "/nonexistent/file", str(good)]) == 1
    out, err = capsys.readouterr()
    assert out == f"{good}: good: 2 workloads, 1 service, 0 policies\n"
    assert err == "error: No such file or directory: /nonexistent/file\n"


def test_check_prints_warnings_and_ends_with_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "workloads:\n- {name: a, namespace: n, workloadIps: [], services: {n/s: {80: 80}}}\n"
    )
    assert main(["check", str(path)]) == 0
    assert (
        f'{path}:2:3: warning: workloads[0].services: no such service in this file: "n/s"'
        in capsys.readouterr().out
    )


def test_run_lists_the_mistakes_of_a_file_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("node: {workload: n/w}\n")
    assert main(["run", str(path)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{path}:1:7: node: missing: `ca`",
        f"error: node file has 1 mistake: {path}",
    ]


def test_run_names_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "/nonexistent/file"]) == 1
    assert capsys.readouterr().err == "error: No such file or directory: /nonexistent/file\n"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=15, check=False
    )


def test_the_module_is_the_same_program(examples: Path) -> None:
    done = python("-m", "ztunnel", "check", str(examples / "deny_all.yaml"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("good: 2 workloads, 0 services, 2 policies\n")


def test_a_reader_that_goes_away_is_no_traceback(examples: Path) -> None:
    program = f"{sys.executable} -m ztunnel check {' '.join([str(examples / 'two_hosts.yaml')] * 2000)} | head -n 1"
    done = subprocess.run(
        ["sh", "-c", program], capture_output=True, text=True, timeout=15, check=False
    )
    assert "Traceback" not in done.stderr


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from ztunnel.cli import main\ntry: main(['run', '--help'])\nexcept SystemExit: pass\n"
    heavy = (
        "print([m for m in ('asyncio', 'yaml', 'cryptography', 'ztunnel.app') if m in sys.modules])"
    )
    assert python("-c", code + heavy).stdout.endswith("\n[]\n")


def test_what_a_node_loads_has_no_cryptography_until_a_ca_is_opened() -> None:
    code = "import sys, ztunnel.app; print('cryptography' in sys.modules, 'rich' in sys.modules)"
    assert python("-c", code).stdout == "False False\n"


@pytest.mark.parametrize(
    "argv", [[], ["proxy"], ["proxy", "ztunnel"], ["proxy", "ztunnel", "--proxyLogLevel", "x"]]
)
def test_a_proxy_says_every_mistake_of_its_environment_and_ends_with_one(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PROXY_MODE", "dedicated")
    monkeypatch.setenv("XDS_ADDRESS", "")
    monkeypatch.setenv("CA_ROOT_CA", "SYSTEM")
    monkeypatch.setenv("PACKET_MARK", "x")
    monkeypatch.setenv("PROXY_WORKLOAD_INFO", "n/web")
    assert main(argv) == 1
    assert capsys.readouterr().err.splitlines() == [
        "invalid env var PROXY_WORKLOAD_INFO=n/web "
        "(must be namespace/name/serviceaccount of the workload to stand for)",
        "missing env var LOCAL_XDS_PATH (must be a file with the mesh)",
        "invalid env var PACKET_MARK=x (must be a whole number from 0 to 4294967295)",
        "error: the environment has 3 mistakes",
    ]


def test_a_proxys_mesh_with_a_mistake_is_shown_as_check_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text("workloads: [x]\n")
    for name, value in {
        "PROXY_MODE": "dedicated",
        "XDS_ADDRESS": "",
        "CA_ROOT_CA": "SYSTEM",
        "PROXY_WORKLOAD_INFO": "n/web/sa",
        "LOCAL_XDS_PATH": str(path),
        "CRL_PATH": "/crl",
    }.items():
        monkeypatch.setenv(name, value)
    assert main(["proxy"]) == 1
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        f"{path}:1:13: workloads[0]: not a mapping: x",
        f"error: mesh file has 1 mistake: {path}",
    ]
    start, config, unbuilt = out.splitlines()
    assert f"version: {__version__}" in start
    assert '"outbound":"[::]:15001"' in config
    assert "without effect, as they are not built yet: CRL_PATH" in unbuilt
