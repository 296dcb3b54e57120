"""What makes traffic go through a node without its application knowing: rules and routes of a pod.

A copy of what istio-cni's agent writes (spec/istio.md A4.3, iptables backend), so that a node is tested against
the rules it will meet. Counterpart: `ztunnel`'s listeners for captured traffic and its packet mark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.netns.namespaces import Namespace

NODE_MARK = 1337
OUTBOUND_PORT = 15001
PLAINTEXT_PORT = 15006

# The numbers are those of the table in A4.3. Missing: 3 (only for virtual machines' interfaces) and 7 to 10 (DNS, not
# built yet).
RULES = """\
*mangle
:ISTIO_PRERT - [0:0]
:ISTIO_OUTPUT - [0:0]
-A PREROUTING -j ISTIO_PRERT
-A OUTPUT -j ISTIO_OUTPUT
# 1, 2: replies on connections that a node made from somebody else's address come back to the node
-A ISTIO_PRERT -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff
-A ISTIO_OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
COMMIT
*nat
:ISTIO_PRERT - [0:0]
:ISTIO_OUTPUT - [0:0]
-A PREROUTING -j ISTIO_PRERT
-A OUTPUT -j ISTIO_OUTPUT
# 4, 5: the kubelet's probes
-A ISTIO_PRERT -s 169.254.7.127/32 -p tcp -m tcp -j ACCEPT
-A ISTIO_OUTPUT -d 169.254.7.127/32 -p tcp -m tcp -j ACCEPT
# 6: what comes in without a tunnel
-A ISTIO_PRERT ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15006
# 11
-A ISTIO_OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
# 12: calls to one's own address
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -j ACCEPT
# 13
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001
COMMIT
"""


def redirect(namespace: Namespace) -> None:
    """Make the namespace a pod of the mesh."""
    namespace.must("iptables-restore", "--noflush", given=RULES)
    namespace.ip("rule", "add", "fwmark", "0x111/0xfff", "pref", "32764", "lookup", "100")
    namespace.ip("route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "100")


def blackhole(*namespaces: Namespace) -> None:
    """Nothing comes in from the wire any more, and nobody is told."""
    for namespace in namespaces:
        namespace.must("iptables", "-t", "mangle", "-I", "PREROUTING", "-i", "eth0", "-j", "DROP")


def heal(*namespaces: Namespace) -> None:
    """Take `blackhole` back."""
    for namespace in namespaces:
        namespace.must("iptables", "-t", "mangle", "-D", "PREROUTING", "-i", "eth0", "-j", "DROP")
