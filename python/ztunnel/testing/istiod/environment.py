"""What a proxy must be told to use a fake istiod: upstream's environment variables (spec/control.md §2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ztunnel.testing.istiod.mounts import Mounts


def environment(
    address: str,
    mounts: Mounts,
    *,
    pod: str = "ztunnel",
    namespace: str = "istio-system",
    account: str = "ztunnel",
    ip: str = "127.0.0.1",
    node: str = "",
    cluster_id: str = "Kubernetes",
) -> dict[str, str]:
    """For a proxy in this pod; its token must be of the same namespace and account."""
    return {
        "XDS_ADDRESS": f"https://{address}",
        "XDS_ROOT_CA": str(mounts.roots.path),
        "CA_ADDRESS": f"https://{address}",
        "CA_ROOT_CA": str(mounts.roots.path),
        "AUTH_TOKEN": str(mounts.token.path),
        "ISTIO_META_CLUSTER_ID": cluster_id,
        "POD_NAME": pod,
        "POD_NAMESPACE": namespace,
        "SERVICE_ACCOUNT": account,
        "INSTANCE_IP": ip,
        **({"NODE_NAME": node} if node else {}),
    }
