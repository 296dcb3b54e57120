"""What this program was built from, in upstream's words: for `ztunnel version`, the first log line, `/config_dump`."""

from __future__ import annotations

from ztunnel import __version__

CRYPTO = "tls-aws-lc"
"""Who does the handshakes, as upstream calls its own build with it."""


def build_info(istio_version: str | None = None) -> dict[str, str]:
    """`version` of `/config_dump` (spec/control.md §11); `NativeModuleMissing` without the compiled half.

    `istio_version` is what `ISTIO_META_ISTIO_VERSION` says.
    """
    # Imported here: `--version` and `--help` need neither half.
    from ztunnel.dataplane.native import native_build

    revision, status, rust, profile = native_build()
    return {
        "version": __version__,
        "gitRevision": revision,
        "rustVersion": rust,
        "buildProfile": profile,
        "buildStatus": status,
        "istioVersion": "unknown" if istio_version is None else istio_version,
        "cryptoProvider": CRYPTO,
    }


def one_line(info: dict[str, str]) -> str:
    """The same as upstream prints it (spec/control.md §1)."""
    pairs = ", ".join(f"{key[0].upper()}{key[1:]}:{_quoted(value)}" for key, value in info.items())
    return f"version.BuildInfo{{{pairs}}}"


def _quoted(text: str) -> str:
    """In quotes, on one line: the version of Istio comes from the environment."""
    return "".join(['"', *(_character(c) for c in text), '"'])


def _character(character: str) -> str:
    if character in '\\"':
        return f"\\{character}"
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"
