"""YAML as upstream's library writes it: blocks, variants as tags, texts on one line.

Only writes; `document` reads. Whatever a text holds, it cannot begin a line of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Variant:
    """A value under the name of its variant: `!File path`."""

    tag: str
    value: Any


def render(value: dict[str, Any]) -> str:
    """The text, with a line end behind it."""
    rendered: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=False,
        allow_unicode=True,
        width=_NEVER_FOLDED,
    )
    return rendered


class _Dumper(yaml.SafeDumper):
    """PyYAML's, with two of its habits changed."""

    def ignore_aliases(self, data: Any) -> bool:
        """Values are written out, however often they occur."""
        return True

    def choose_scalar_style(self) -> Any:
        """Plain behind a tag, where PyYAML would quote."""
        state: Any = self
        if state.analysis is None:
            state.analysis = state.analyze_scalar(state.event.value)
        if (state.event.tag or "").startswith("!") and state.analysis.allow_block_plain:
            return ""
        return super().choose_scalar_style()


def _variant(dumper: yaml.SafeDumper, variant: Variant) -> yaml.Node:
    node: yaml.Node = dumper.represent_data(variant.value)
    node.tag = f"!{variant.tag}"
    return node


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"'
    )


_Dumper.add_representer(Variant, _variant)
_Dumper.add_representer(str, _text)
_NEVER_FOLDED = 1 << 30
