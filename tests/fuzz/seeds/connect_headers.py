"""One text each (BI-H); every target parser gets all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .blocks import BAGGAGE, TRACEPARENT

if TYPE_CHECKING:
    from . import Seeds


def connect_headers() -> Seeds:
    """Texts of every kind; each goes to every parser."""
    authorities = [
        *[
            "1.2.3.4:80",
            "[::1]:65535",
            "[::ffff:127.0.0.1]:15000",
            "web.default.svc.cluster.local:80",
        ],
        *[
            "",
            "web",
            ":80",
            "web:0",
            "web:65536",
            "web:+80",
            "web:080",
            "web: 80",
            "u@h:1",
            "web.:80",
        ],
        *[
            "010.0.0.1:80",
            "[::1%eth0]:80",
            "[fe80::1%1]:80",
            "[::1]",
            "[::1:80",
            "::1:80",
            "*.x:80",
            "we\0b:80",
        ],
        *["xn--bcher-kva:80", "b\u00fccher:80", "WEB:80", "a" * 253 + ":1", "a" * 254 + ":1"],
    ]
    for number, text in enumerate(authorities):
        yield f"authority_{number:02}", text.encode()
    lists = [
        *[
            BAGGAGE,
            "",
            "cloud.region=eu,cloud.region=us",
            "cloud.region=eu=us",
            "cloud.region",
            "=,=,==",
        ],
        *[
            "k8s.pod.name=a,k8s.job.name=",
            "cloud.region=%20%zz",
            "cloud.region=\u00e4",
            " cloud.region = eu ",
        ],
        *[
            ",".join(["a=b"] * 181),
            "x" * 4000,
            "cloud.region=eu\ncloud.region=us\n\nservice.name=web",
        ],
    ]
    for number, text in enumerate(lists):
        yield f"baggage_{number:02}", text.encode()
    hops = [
        *[
            'for="10.0.0.1:80"',
            'for="[::1]:80";host=web.default',
            'host="web"',
            'host="web',
            'host=web"',
            "host=",
        ],
        *[
            "for=a;host=one, for=b;host=two",
            "host=one;host=two",
            " host=web ;x",
            "Host=web",
            'host=""',
            "host=;;",
        ],
    ]
    for number, text in enumerate(hops):
        yield f"forwarded_{number:02}", text.encode()
    traces = [
        *[
            TRACEPARENT,
            "0" * 55,
            "-" * 55,
            TRACEPARENT[:54],
            TRACEPARENT + "0",
            TRACEPARENT.upper(),
        ],
        *[
            "ff" + TRACEPARENT[2:],
            "fe" + TRACEPARENT[2:],
            "00-" + "0" * 32 + TRACEPARENT[35:],
            "\u00e9" * 27 + "-",
        ],
    ]
    for number, text in enumerate(traces):
        yield f"traceparent_{number:02}", text.encode()
