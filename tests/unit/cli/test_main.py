"""The command line: verbs, help, exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from ztunnel import __version__
from ztunnel.cli import VERBS, main
from ztunnel.environment.meant import TELLING
from ztunnel.version import build_info, one_line

if TYPE_CHECKING:
    from pathlib import Path

BUILD_INFO = re.compile(
    r'version\.BuildInfo\{Version:"(?P<version>[^"]+)", GitRevision:"[^"]+", RustVersion:"[^"]+", '
    r'BuildProfile:"(release|debug)", BuildStatus:"(Clean|Modified|unknown)", IstioVersion:"(?P<istio>[^"]+)", '
    r'CryptoProvider:"tls-aws-lc"\}\n'
)


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


def code_of(argv: list[str]) -> object:
    try:
        return main(argv)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["help"], ["help", "more"]])
def test_help_lists_every_verb(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(argv) == 0
    out = capsys.readouterr().out
    for verb, summary in VERBS.items():
        assert f"{verb} " in out
        assert summary in out


@pytest.mark.parametrize("argv", [["run"], ["check"], ["run", "x", "y"]])
def test_arguments_that_are_not_understood_end_with_two(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(argv) == 2
    assert "usage: ztunnel" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["nonsense", "--nonsense", "", "Proxy"])
def test_an_unknown_command_is_named_and_what_there_is_comes_on_standard_output(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word, "proxy"]) == 1
    out, err = capsys.readouterr()
    assert err == f"unknown command: {word}\n"
    assert out.startswith("usage: ztunnel")


@pytest.mark.parametrize("more", [[], ["x", "--y"]])
def test_the_version_is_upstreams_line(
    more: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ISTIO_META_ISTIO_VERSION", raising=False)
    assert main(["version", *more]) == 0
    line = BUILD_INFO.fullmatch(capsys.readouterr().out)
    assert line
    assert line["version"] == __version__
    assert line["istio"] == "unknown"


def test_the_version_as_json_is_that_of_the_dump(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISTIO_META_ISTIO_VERSION", '1.28-"x"\n')
    assert main(["version", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info == build_info('1.28-"x"\n')
    assert list(info) == [
        *("version", "gitRevision", "rustVersion", "buildProfile"),
        *("buildStatus", "istioVersion", "cryptoProvider"),
    ]
    assert r'IstioVersion:"1.28-\"x\"\u{a}"' in one_line(info)


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
        "invalid env var PACKET_MARK=x (must be a whole number from 0 to 4294967295)",
        "missing env var LOCAL_XDS_PATH (must be a file with the mesh, as XDS_ADDRESS is empty)",
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
    assert main(["proxy", "ztunnel", "--x"]) == 1
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        f"{path}:1:13: workloads[0]: not a mapping: x",
        f"error: mesh file has 1 mistake: {path}",
    ]
    lines = [line.rstrip("\t") for line in out.splitlines()]
    assert lines[0].split("\t")[1:3] == ["info", "ztunnel"]
    assert BUILD_INFO.fullmatch(lines[0].split("\t")[3].removeprefix("version: ") + "\n")
    limits = r"set file descriptor limits from \d+ to (\d+)"
    assert re.fullmatch(limits, lines[1].split("\t")[3])
    assert lines[2].endswith("\tinfo\tztunnel\trunning with config: proxy: true")
    config = yaml.compose("\n".join(lines[2:-1]).partition("running with config: ")[2])
    assert isinstance(config, yaml.MappingNode)
    shown = {key.value: value.value for key, value in config.value}
    assert shown["proxyArgs"] == "proxy ztunnel --x"
    assert shown["outboundAddr"] == "[::]:15001"
    assert lines[-1].endswith(
        "\twarn\tztunnel\twithout effect, as they are not built yet: ISTIO_META_DNS_CAPTURE (unset means true)"
    )


def test_without_a_word_and_without_an_environment_the_way_to_help_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 1
    err = capsys.readouterr().err
    assert "missing env var PROXY_MODE" in err
    assert err.endswith("; `ztunnel help` lists what else there is\n")


def test_the_module_takes_upstreams_words_as_well() -> None:
    done = python("-m", "ztunnel", "proxy", "ztunnel")
    assert done.returncode == 1
    assert "missing env var PROXY_MODE" in done.stderr
