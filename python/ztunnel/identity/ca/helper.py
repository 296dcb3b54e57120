"""The child of `process.py`: opens the CA folder, signs one request from standard input, ends.

Lines of JSON. First an empty object when the folder is open, then an answer to each request; instead of
either `{"error": class, "message": sentence}`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ztunnel.errors import CaError, ZtunnelError
from ztunnel.identity.ca.selfsigned import SelfSignedCa
from ztunnel.identity.spiffe import Identity


def main() -> int:
    """Arguments: folder, trust domain, lifetime of leaves in seconds."""
    directory, trust_domain, lifetime = sys.argv[1:]
    try:
        ca = SelfSignedCa.open(
            Path(directory), trust_domain=trust_domain, leaf_lifetime=float(lifetime)
        )
    except CaError as error:
        _say({"error": type(error).__name__, "message": str(error)})
        return 1
    _say({})
    for line in sys.stdin:
        _say(_answer(ca, json.loads(line)))
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
