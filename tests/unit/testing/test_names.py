"""What `ztunnel.testing` offers is there, and nothing else is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ztunnel import testing


@pytest.mark.parametrize("name", testing.__all__)
def test_every_name_is_where_it_is_said_to_be(name: str) -> None:
    assert getattr(testing, name).__name__ == name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'ztunnel\.testing' has no attribute 'Istiod'"):
        _ = testing.Istiod


def test_importing_it_imports_nothing_else() -> None:
    said = (
        "import sys, ztunnel.testing as t; print(sorted(m for m in sys.modules if 'ztunnel' in m))"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout == "['ztunnel', 'ztunnel.testing']\n"
