"""Exceptions: the tree, and how they read."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from ztunnel import errors
from ztunnel.errors import MeshFileError, NodeFileError, Problem, SettingsError, ZtunnelError

ONE = Problem(3, 5, "workloads[0]", "missing: `namespace`")


def test_every_exception_is_drawn_in_the_tree_at_the_top() -> None:
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)
    ]
    assert errors.__doc__ is not None
    for each in classes:
        assert issubclass(each, ZtunnelError)
        assert each.__name__ in errors.__doc__ or each is errors.InvalidFile


@pytest.mark.parametrize("name", ["SettingsError", "CredentialError", "DataPlaneClosed"])
def test_those_that_rust_raises_take_one_message(name: str) -> None:
    assert str(getattr(errors, name)("the message")) == "the message"


def test_a_file_with_mistakes_lists_them_as_editors_jump_to() -> None:
    error = MeshFileError(Path("m.yaml"), [ONE, Problem(9, 1, "", "x")])
    assert str(error) == "mesh file has 2 mistakes: m.yaml"
    assert error.lines() == ["m.yaml:3:5: workloads[0]: missing: `namespace`", "m.yaml:9:1: x"]


def test_a_node_file_with_mistakes_is_a_matter_of_settings() -> None:
    error = NodeFileError(Path("n.yaml"), [ONE])
    assert isinstance(error, SettingsError)
    assert str(error) == "node file has 1 mistake: n.yaml"
