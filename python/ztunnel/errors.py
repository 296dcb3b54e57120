"""Everything that ztunnel raises, and what each one means.

    ZtunnelError
    ├── SettingsError            a setting cannot be used (also raised by the native module)
    │   ├── NodeFileError        … in a node file; lists every mistake with line and column
    │   └── EnvironmentUnusable  … in environment variables; lists every mistake
    ├── MeshFileError            a mesh file cannot be used; lists every mistake with line and column
    ├── IdentityError            a text is not a SPIFFE ID
    ├── CredentialError          key, chain, roots and identity do not belong together (native module)
    ├── CaError                  the certificate authority did not sign
    │   ├── CaFolderError        … because its folder on disk cannot be used
    │   ├── CaRefusal            … because the request asks for something it may not have
    │   └── CaUnavailable        … because it cannot be reached now; trying again later is sensible
    ├── EndpointError            a server of the control plane cannot be asked: its roots, our token
    │   ├── EndpointUnreachable  … because there is no connection to it now
    │   ├── StreamEnded          … because it ended a stream, with a status of gRPC
    │   └── StreamLost           … because a stream ended without one
    ├── MeshRejected             the data plane did not take a resource at start
    ├── DataPlaneClosed          the data plane was stopped (native module)
    └── NativeModuleMissing      the package was not built

Operating-system trouble stays `OSError` with its errno. The native module imports its three classes
from here, so each of them must accept one message as its only argument.

Messages are lower-case, without a full stop; the value at fault comes last, after a colon; a hint
about what to do follows a semicolon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class ZtunnelError(Exception):
    """Base of everything that ztunnel raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file: where it is and what is wrong."""

    line: int
    """Counted from 1, as editors do."""
    column: int
    """Counted from 1, in characters."""
    path: str
    """The way to the value, for example `workloads[2].workloadIps[0]`; empty for the file as a whole."""
    message: str
    """One sentence."""

    def __str__(self) -> str:
        where = f"{self.line}:{self.column}: "
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


class SettingsError(ZtunnelError):
    """A setting that cannot be used."""


class InvalidFile(ZtunnelError):
    """A file that cannot be used, with every mistake that was found in it."""

    what = "file"

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__(path, self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        return f"{self.what} has {count} mistake{'' if count == 1 else 's'}: {self.path}"

    def lines(self) -> list[str]:
        """One line for each mistake, `file:line:column: path: message`, as editors jump to."""
        return [f"{self.path}:{problem}" for problem in self.problems]


class MeshFileError(InvalidFile):
    """A mesh file that cannot be used."""

    what = "mesh file"


class NodeFileError(InvalidFile, SettingsError):
    """A node file that cannot be used."""

    what = "node file"


class EnvironmentUnusable(SettingsError):
    """Environment variables that cannot be used, with every mistake that was found in them."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(self.mistakes)

    def __str__(self) -> str:
        count = len(self.mistakes)
        return f"the environment has {count} mistake{'' if count == 1 else 's'}"

    def lines(self) -> list[str]:
        """One line for each mistake, with the variable's name, its value and what is allowed."""
        return list(self.mistakes)


class IdentityError(ZtunnelError):
    """A text that is not a SPIFFE ID."""


class CredentialError(ZtunnelError):
    """Key, certificate chain, roots and identity do not belong together."""


class CaError(ZtunnelError):
    """The certificate authority did not sign."""


class CaFolderError(CaError):
    """The folder of the built-in CA cannot be used; nothing in it was changed."""


class CaRefusal(CaError):
    """The signing request asks for something that it may not have."""


class CaUnavailable(CaError):
    """The certificate authority cannot be reached now, or did not answer in time."""


class EndpointError(ZtunnelError):
    """A server of the control plane cannot be asked as things are."""


class EndpointUnreachable(EndpointError):
    """No connection to a server of the control plane could be made."""


class StreamEnded(EndpointError):
    """A server ended a stream of messages, or refused to begin it."""

    def __init__(self, status: str, message: str) -> None:
        self.status = status
        """The code's name, such as `UNAVAILABLE`."""
        self.message = message
        super().__init__(status, message)

    def __str__(self) -> str:
        return f"{self.status}: {self.message or 'without a reason'}"


class StreamLost(EndpointError):
    """A stream of messages ended and nobody said why: a reset, a lost connection, silence."""


class MeshRejected(ZtunnelError):
    """The data plane did not take a resource that it needs to start."""


class DataPlaneClosed(ZtunnelError):
    """The data plane was stopped; this handle is of no more use."""


class NativeModuleMissing(ZtunnelError):
    """`ztunnel._ztunnel` is not there: the package was not built."""
