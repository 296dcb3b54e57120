"""Applications that know nothing of a mesh, between two pods (A5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.apps import Heard

if TYPE_CHECKING:
    from tests.netns.pods import Pair

pytestmark = pytest.mark.root


def test_a_connection_to_a_service_reaches_the_pod_behind_it(pair: Pair) -> None:
    with pair.server.listens(8080) as app:
        client, server = app.pair(lambda: pair.client.dials((pair.vip, 80)))
        client.says(b"question").finishes()
        assert server.hears() == Heard(b"question", "FIN")
        server.says(b"answer").finishes()
        assert client.hears() == Heard(b"answer", "FIN")
