"""How many workers: the table of spec/control.md §17.1."""

from __future__ import annotations

import pytest

from ztunnel.environment.variables import Variables
from ztunnel.environment.workers import workers

WANTED, CPU = "ZTUNNEL_WORKER_THREADS", "ZTUNNEL_CPU_LIMIT"
LIMIT, REQUEST = "ZTUNNEL_RESOURCE_CPU_LIMIT", "ZTUNNEL_RESOURCE_CPU_REQUEST"


@pytest.mark.parametrize(
    ("environ", "cores", "number"),
    [
        ({WANTED: "4"}, 2, 4),
        ({WANTED: "50%", CPU: "8"}, 2, 4),
        ({WANTED: "30%", CPU: "16"}, 2, 5),
        ({WANTED: "10%", CPU: "4"}, 2, 1),
        ({WANTED: "0", CPU: "6"}, 2, 6),
        ({WANTED: "0"}, 12, 12),
        ({}, 32, 8),
        ({}, 4, 2),
        ({}, 1, 2),
        ({LIMIT: "16"}, 2, 16),
        ({LIMIT: "1"}, 2, 1),
        ({LIMIT: "500m"}, 2, 1),
        ({LIMIT: "2500m"}, 2, 3),
        ({LIMIT: "1.5"}, 2, 2),
        ({LIMIT: "4", REQUEST: "8"}, 2, 8),
        ({REQUEST: "8"}, 8, 8),
        ({LIMIT: "4", CPU: "8", WANTED: "100%"}, 2, 4),
        ({WANTED: "1000"}, 2, 256),
    ],
)
def test_the_operator_wins_over_kubernetes_and_kubernetes_over_the_machine(
    environ: dict[str, str], cores: int, number: int
) -> None:
    variables = Variables(environ)
    assert workers(variables, cores) == number
    assert variables.mistakes == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((WANTED, value) for value in ("", "-1", "x", "0%", "101%", "%", "1.5", "70000", "nan%")),
        *((LIMIT, value) for value in ("", "0", "0m", "-1", "2k", "nan", "inf")),
        (CPU, "1.5"),
        (CPU, "0"),
    ],
)
def test_a_number_that_is_none_is_a_mistake_with_what_is_allowed(name: str, value: str) -> None:
    variables = Variables({name: value})
    workers(variables, 2)
    (mistake,) = variables.mistakes
    assert mistake.startswith(f"invalid env var {name}={value} (must be a ")
