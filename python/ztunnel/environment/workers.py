"""How many workers: from the machine, from what Kubernetes grants, from what the operator says (control §2.3)."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from ztunnel.environment.variables import Kind, integer

if TYPE_CHECKING:
    from ztunnel.environment.variables import Variables

# The data plane takes no more: no machine has more cores than that to give to a proxy.
MOST = 256
DEFAULT_SHARE = 0.25
LEAST_BY_DEFAULT = 2


def workers(variables: Variables, cores: int) -> int:
    """The number of workers on a machine with so many cores."""
    limit = variables.find("ZTUNNEL_RESOURCE_CPU_LIMIT", QUANTITY)
    request = variables.read("ZTUNNEL_RESOURCE_CPU_REQUEST", QUANTITY, 0)
    cpus = limit or variables.find("ZTUNNEL_CPU_LIMIT", integer(1, 1 << 16)) or cores
    if limit is not None:
        default = max(limit, request)
    else:
        default = max(math.ceil(DEFAULT_SHARE * cpus), request, LEAST_BY_DEFAULT)
    wanted = variables.find(
        "ZTUNNEL_WORKER_THREADS", Kind(lambda text: _wanted(text, cpus), WANTED)
    )
    return min(max(default if wanted is None else wanted, 1), MOST)


def _wanted(text: str, cpus: int) -> int:
    """`4`, `0` for all, `50%`."""
    share = _PERCENT.fullmatch(text)
    if share:
        percent = float(share[1])
        if not 0 < percent <= 100:
            raise ValueError
        return math.ceil(cpus * percent / 100)
    return integer(0, 65535).read(text) or cpus


def _quantity(text: str) -> int:
    """A quantity of Kubernetes in whole cores, rounded up."""
    found = _CORES.fullmatch(text)
    if not found:
        raise ValueError
    cores = math.ceil(float(found[1]) / (1000 if found[2] else 1))
    if cores <= 0:
        raise ValueError
    return cores


WANTED = "a number of threads, 0 for all cores, or a percentage such as 50%"
QUANTITY = Kind(_quantity, "a number of cores above 0, such as 2, 1.5 or 500m")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)%")
_CORES = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(m?)")
