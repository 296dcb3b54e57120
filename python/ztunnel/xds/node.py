"""Who we are to the control plane: the node of a stream's first requests (spec/control.md §4.4).

Values in, values out; where they come from is the environment's to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ztunnel.wire.discovery import WireNode

if TYPE_CHECKING:
    from ztunnel.document.checks import Json
    from ztunnel.settings import XdsNode


def wire_node(node: XdsNode) -> WireNode:
    """As istiod reads it (istio.md A3.3): four parts joined by `~`, and metadata in which the last word wins."""
    pod, namespace = node.pod or "", node.namespace or ""
    metadata: dict[str, Json] = {
        "NAME": pod,
        "NAMESPACE": namespace,
        # A text even for several: a list makes istiod refuse the stream.
        "INSTANCE_IPS": node.instance_ip,
        "NODE_NAME": node.name or "",
    }
    metadata |= dict(node.metadata)
    metadata |= dict(node.json_metadata)
    # The suffix is literal, whatever the cluster's own domain is.
    name = f"ztunnel~{node.instance_ip}~{pod}.{namespace}~{namespace}.svc.cluster.local"
    return WireNode(id=name, metadata=tuple(metadata.items()))
