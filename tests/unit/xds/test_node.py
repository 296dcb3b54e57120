"""Who we say we are (spec/control.md §4.4, istio.md A3.3)."""

from __future__ import annotations

from ztunnel.settings import XdsNode
from ztunnel.wire.discovery import WireNode
from ztunnel.xds.node import wire_node


def test_what_is_not_known_is_empty() -> None:
    assert wire_node(XdsNode()) == WireNode(
        id="ztunnel~1.1.1.1~.~.svc.cluster.local",
        metadata=(
            ("NAME", ""),
            ("NAMESPACE", ""),
            ("INSTANCE_IPS", "1.1.1.1"),
            ("NODE_NAME", ""),
        ),
    )


def test_metadata_wins_over_what_we_know_and_typed_metadata_over_all() -> None:
    node = wire_node(
        XdsNode(
            pod="zt",
            namespace="istio-system",
            instance_ip="10.0.0.9",
            name="node-a",
            metadata=(("NODE_NAME", "other"), ("CLUSTER_ID", "c"), ("LABELS", "none")),
            json_metadata=(("LABELS", {"app": "x"}),),
        )
    )
    assert node.id == "ztunnel~10.0.0.9~zt.istio-system~istio-system.svc.cluster.local"
    assert dict(node.metadata) == {
        "NAME": "zt",
        "NAMESPACE": "istio-system",
        "INSTANCE_IPS": "10.0.0.9",
        "NODE_NAME": "other",
        "CLUSTER_ID": "c",
        "LABELS": {"app": "x"},
    }
