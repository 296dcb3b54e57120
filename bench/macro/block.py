"""One subject doing one row once: what a row's function is given, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.macro import mesh, usage

if TYPE_CHECKING:
    from bench.macro.load import Load, Result
    from bench.macro.peers import Pair, Site


@dataclass(kw_only=True)
class Block:
    """The figures have names that end in their unit: `1 stream up, Gbit/s`."""

    pair: Pair
    load: Load
    site: Site
    seconds: float
    scale: float = 1.0
    """Below one, numbers of connections are smaller: for the smoke test."""
    figures: dict[str, float] = field(default_factory=dict)
    raw: list[dict[str, Any]] = field(default_factory=list)

    @property
    def direct(self) -> bool:
        """Whether nobody is between."""
        return not self.pair.proxies

    def many(self, count: int) -> int:
        """So many, or fewer in a smoke test."""
        return max(1, int(count * self.scale))

    def words(
        self,
        verb: str,
        *,
        to: str = mesh.FAR_ADDRESS,
        port: int = mesh.APPLICATION_PORT,
        **options: object,
    ) -> list[str]:
        """A client's command line."""
        return self.load.words(verb, to=to, port=port, marked=self.direct, **options)

    def warm_up(self) -> None:
        """Tunnels are up, and allocators and caches have seen some work."""
        words = self.words("fresh", parallel=8, count=self.many(64), seconds=10)
        result = self.load.run(words, 10)
        if not result["all"]:
            raise RuntimeError(
                f"warm-up: {result['count']} of {self.many(64)}: {result['failure']}"
            )

    def run(self, name: str, verb: str, **options: object) -> tuple[Result, float]:
        """Run a client to its end: its result, and the proxies' CPU seconds meanwhile."""
        seconds = float(str(options.setdefault("seconds", self.seconds)))
        words = self.words(verb, **options)  # type: ignore[arg-type]
        busy, cpu = usage.machine_busy_seconds(), self.pair.cpu()
        result = self.load.run(words, seconds)
        cpu = self.pair.cpu() - cpu
        busy = usage.machine_busy_seconds() - busy
        self.pair.check()
        self.keep(name, result, cpu=cpu, machine_busy=busy)
        return result, cpu

    def keep(self, name: str, result: Result, **more: object) -> None:
        """Note what was seen, as it was."""
        self.raw.append({"workload": name, **more, "result": result})

    def note(self, name: str, value: float | None) -> None:
        """Note a figure. One that cannot be had is left out."""
        if value is not None:
            self.figures[name] = value

    def note_cpu(self, name: str, cpu: float, units: float, micros: bool = True) -> None:
        """CPU of the proxies for each of these; nothing to say where there are none."""
        if not self.direct and units:
            self.figures[name] = cpu / units * (1e6 if micros else 1.0)
