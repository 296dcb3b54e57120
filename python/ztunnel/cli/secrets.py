"""Keeps others out of the memory of a process that has private keys and tokens (spec/reliability.md T31).

For both verbs that serve, before there is a key. The process of the built-in CA does the same for itself, as a program
that is started anew begins without (`identity/ca/helper.py`).
"""

from __future__ import annotations

import logging

from ztunnel.dataplane.native import forbid_dumps


def keep_out() -> None:
    """No core, no debugger of the same user. A kernel that refuses costs a line of the log, not the node."""
    try:
        forbid_dumps()
    except OSError as error:
        logging.getLogger("ztunnel").warning("cores and debuggers are not kept out: %s", error)
