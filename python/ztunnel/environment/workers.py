"""How many workers: from the machine, from what Kubernetes grants, from what the operator says (control §2.3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ztunnel.environment import table
from ztunnel.environment.config import Share

if TYPE_CHECKING:
    from ztunnel.environment.variables import Variables

# The data plane takes no more: no machine has more cores than that to give to a proxy.
MOST = 256
DEFAULT_SHARE = 0.25
LEAST_BY_DEFAULT = 2


def workers(variables: Variables, cores: int, concurrency: int | None = None) -> int:
    """The number of workers on a machine with so many cores; `concurrency` is ProxyConfig's."""
    limit = variables.read(table.ZTUNNEL_RESOURCE_CPU_LIMIT)
    request = variables.read(table.ZTUNNEL_RESOURCE_CPU_REQUEST) or 0
    granted = variables.read(table.ZTUNNEL_CPU_LIMIT)
    cpus = limit or granted or cores
    if limit is not None:
        default = max(limit, request)
    else:
        default = max(math.ceil(DEFAULT_SHARE * cpus), request, LEAST_BY_DEFAULT)
    wanted = variables.read(table.ZTUNNEL_WORKER_THREADS)
    if wanted is None:
        wanted = concurrency
    if isinstance(wanted, Share):
        wanted = math.ceil(cpus * wanted.percent / 100)
    elif wanted == 0:
        wanted = cpus
    return min(max(default if wanted is None else wanted, 1), MOST)
