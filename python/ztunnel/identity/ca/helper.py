"""What runs in the child process: opens the CA folder, signs what is asked on standard input, ends with it.

Lines of JSON, an answer to each: first which folder to open (null is none, and the root ends with the
process), then signing requests. What goes wrong is `{"error": class, "message": sentence}`. `child.py` is the
other side.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from ztunnel.dataplane.native import forbid_dumps
from ztunnel.errors import CaError, ZtunnelError
from ztunnel.identity.ca.selfsigned import SelfSignedCa
from ztunnel.identity.spiffe import Identity


def main() -> None:
    """Answers until its input ends."""
    # A key is coming. What a parent does for itself does not outlive the start of another program.
    with contextlib.suppress(OSError):
        forbid_dumps()
    first = sys.stdin.readline()
    if not first:
        return
    try:
        ca = _open(json.loads(first))
    except CaError as error:
        _say({"error": type(error).__name__, "message": str(error)})
        return
    _say({})
    for line in sys.stdin:
        _say(_answer(ca, json.loads(line)))


def _open(folder: dict[str, Any]) -> SelfSignedCa:
    trust_domain, lifetime = folder["trustDomain"], folder["leafLifetime"]
    if folder["directory"] is None:
        return SelfSignedCa.fresh(trust_domain=trust_domain, leaf_lifetime=lifetime)
    directory = Path(folder["directory"])
    return SelfSignedCa.open(directory, trust_domain=trust_domain, leaf_lifetime=lifetime)


def _answer(ca: SelfSignedCa, request: dict[str, str]) -> dict[str, object]:
    try:
        issued = ca.issue(request["csr"].encode(), Identity.parse(request["identity"]))
    except ZtunnelError as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {
        "chain": issued.chain.decode(),
        "roots": issued.roots.decode(),
        "notBefore": issued.not_before,
        "notAfter": issued.not_after,
    }


def _say(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
