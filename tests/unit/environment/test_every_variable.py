"""Every variable of upstream's, one by one: malformed, empty, huge, and what is said about it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ztunnel.environment import table
from ztunnel.environment.config import Machine
from ztunnel.environment.dump import as_yaml, config_section
from ztunnel.environment.kinds import (
    ADDRESS,
    BOOLEAN,
    DNS_ADDRESS,
    FILTER,
    QUANTITY,
    SWITCH,
    TEXT,
    THREADS,
    WORKLOAD,
)
from ztunnel.environment.reading import read_config
from ztunnel.environment.variables import MAX_SHOWN, Status, Variable, Variables, shown

ALL = {v.name: v for _, group in table.GROUPS for v in group}
STRICT = {name: v for name, v in ALL.items() if v.kind is not TEXT}
BY_NAME = pytest.mark.parametrize("variable", ALL.values(), ids=ALL)

# As spec/control.md §2.2 lists them.
SPECIFIED = """
ENABLE_PROXY PROXY_MODE PROXY_WORKLOAD_INFO KUBERNETES_SERVICE_HOST XDS_ADDRESS CA_ADDRESS FAKE_CA XDS_ROOT_CA
CA_ROOT_CA ALT_XDS_HOSTNAME ALT_CA_HOSTNAME AUTH_TOKEN CLUSTER_ID CLUSTER_DOMAIN NETWORK NODE_NAME POD_NAME
POD_NAMESPACE SERVICE_ACCOUNT TRUST_DOMAIN INSTANCE_IP XDS_ON_DEMAND LOCAL_XDS_PATH LOCAL_XDS SECRET_TTL
PREFERED_SERVICE_NAMESPACE HTTP2_STREAM_WINDOW_SIZE HTTP2_CONNECTION_WINDOW_SIZE HTTP2_FRAME_SIZE
POOL_MAX_STREAMS_PER_CONNECTION POOL_UNUSED_RELEASE_TIMEOUT KEEPALIVE_ENABLED KEEPALIVE_TIME KEEPALIVE_INTERVAL
KEEPALIVE_RETRIES USER_TIMEOUT_ENABLED CONNECTION_TERMINATION_DEADLINE TERMINATION_GRACE_PERIOD_SECONDS
ENABLE_ORIG_SRC PACKET_MARK INPOD_UDS INPOD_PORT_REUSE IPV6_ENABLED UNSTABLE_ENABLE_SOCKS5 LOCALHOST_APP_TUNNEL
ENABLE_RESPONSE_BAGGAGE CRL_PATH ZTUNNEL_WORKER_THREADS ZTUNNEL_CPU_LIMIT ZTUNNEL_RESOURCE_CPU_LIMIT
ZTUNNEL_RESOURCE_CPU_REQUEST PROXY_CONFIG ISTIO_META_CLUSTER_ID ISTIO_META_DNS_CAPTURE ISTIO_META_DNS_PROXY_ADDR
ISTIO_META_ISTIO_VERSION RUST_LOG LOG_FORMAT AUTHZ_POLICY_INFO_LOGGING COMPLIANCE_POLICY TLS12_ENABLED
INPOD_ENABLED RUST_BACKTRACE
"""

# What is no value of any kind that can be wrong.
MALFORMED = {
    ADDRESS: "https://",
    BOOLEAN: "TRUE",
    DNS_ADDRESS: "not-an-address",
    FILTER: "bogus",
    QUANTITY: "2k",
    SWITCH: "1",
    THREADS: "0%",
    WORKLOAD: "a/b",
}
# Kinds that take the empty text.
TAKE_EMPTY = (ADDRESS, FILTER, SWITCH, TEXT)


def mistakes(environ: dict[str, str]) -> list[str]:
    variables = Variables(environ)
    read_config(variables, Machine(cores=2))
    return [m for m in variables.mistakes if any(f" {name}=" in m for name in environ)]


def test_the_table_has_the_variables_of_the_specification_and_no_others() -> None:
    assert set(ALL) == set(SPECIFIED.split())


def test_every_variable_is_read() -> None:
    variables = Variables({})
    read_config(variables, Machine(cores=2))
    # Read where the token is needed, which is no part of what is shown.
    assert set(ALL) - set(variables.values) == {"AUTH_TOKEN"}


def test_each_variable_has_a_meaning_and_says_what_its_status_is_about() -> None:
    for variable in ALL.values():
        assert variable.meaning.endswith("."), variable.name
        assert bool(variable.about) == (variable.status in (Status.UNBUILT, Status.REFUSED)), (
            variable.name
        )


@pytest.mark.parametrize("variable", STRICT.values(), ids=STRICT)
def test_what_is_malformed_is_named_with_its_value_and_what_is_allowed(
    variable: Variable[Any],
) -> None:
    text = MALFORMED.get(variable.kind, "x")
    (mistake,) = mistakes({variable.name: text})
    assert mistake.startswith(f"invalid env var {variable.name}={text} (")
    assert "must be" in mistake or "not a log level" in mistake


@BY_NAME
def test_the_empty_text_is_set(variable: Variable[Any]) -> None:
    found = mistakes({variable.name: ""})
    fatal = variable.kind not in TAKE_EMPTY and variable.name != "COMPLIANCE_POLICY"
    # Of those that take it, some need more than nothing.
    fatal = fatal or variable.name in ("CA_ADDRESS", "CA_ROOT_CA", "LOCAL_XDS_PATH", "XDS_ROOT_CA")
    assert len(found) == fatal, found


@BY_NAME
def test_what_is_huge_is_neither_taken_for_a_number_nor_shown_whole(
    variable: Variable[Any],
) -> None:
    huge = "9" * 100_000
    for mistake in mistakes({variable.name: huge}):
        assert mistake.startswith(f"invalid env var {variable.name}=")
        assert len(mistake) < MAX_SHOWN + 300
    if variable.kind.name in ("integer", "duration", "boolean", "word"):
        assert mistakes({variable.name: huge}) != []


@pytest.mark.parametrize("name", ["AUTH_TOKEN", "CA_HEADER_X", "XDS_HEADER_AUTHORIZATION"])
def test_what_may_be_a_secret_is_never_shown(name: str) -> None:
    variables = Variables({name: "xyzzy\n"})
    read_config(variables, Machine(cores=2))
    variables.mistake(name, "is wrong")
    assert "xyzzy" not in " ".join(variables.mistakes)
    assert f"invalid env var {name}=<redacted> (is wrong)" in variables.mistakes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:xyzzy@istiod:15012", "https://...@istiod:15012"),
        ("me:xyzzy@istiod:15012", "...@istiod:15012"),
        ("https://me:xyzzy@istiod:port", "https://...@istiod:port"),
        ("me:xyzzy@[istiod", "...@[istiod"),
    ],
)
def test_a_password_in_an_address_is_never_shown(text: str, expected: str) -> None:
    (mistake,) = mistakes({"XDS_ADDRESS": text})
    assert mistake.startswith(f"invalid env var XDS_ADDRESS={expected} (must be")
    assert "xyzzy" not in "".join(
        mistakes({"PROXY_CONFIG": f"{{discoveryAddress: '{text}', concurrency: x}}"})
    )


def test_what_is_no_password_is_shown() -> None:
    assert shown("X", "a//b c@d") == "a//b c@d"


@pytest.mark.parametrize("text", ["host:port", "host:99999", "https://[host", "h\u2100st:1"])
def test_an_address_that_cannot_be_read_is_answered_in_our_words(text: str) -> None:
    (mistake,) = mistakes({"CA_ADDRESS": text})
    assert mistake == (
        f"invalid env var CA_ADDRESS={text} (must be an address such as istiod.istio-system.svc:15012)"
    )


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        (
            {"LOCAL_XDS_PATH": "/mesh.yaml", "LOCAL_XDS": "workloads: []"},
            "invalid env var LOCAL_XDS_PATH=/mesh.yaml (LOCAL_XDS is set as well; remove one of the two)",
        ),
        (
            {"XDS_ON_DEMAND": "true"},
            "invalid env var XDS_ON_DEMAND=true (not together with the DNS proxy; set "
            "ISTIO_META_DNS_CAPTURE=false as well)",
        ),
        (
            {"ENABLE_PROXY": "false", "ISTIO_META_DNS_CAPTURE": "false"},
            "invalid env var ENABLE_PROXY=false (without the DNS proxy (ISTIO_META_DNS_CAPTURE) nothing is left "
            "to run)",
        ),
        (
            {"PROXY_MODE": "dedicated"},
            "missing env var PROXY_WORKLOAD_INFO (must be namespace/name/serviceaccount of the workload to "
            "stand for)",
        ),
    ],
)
def test_a_pair_that_cannot_be_is_named(environ: dict[str, str], reason: str) -> None:
    variables = Variables(environ)
    read_config(variables, Machine(cores=2))
    assert reason in variables.mistakes


@settings(deadline=None)
@given(st.sampled_from(sorted(ALL)), st.text(max_size=60))
def test_whatever_a_variable_holds_there_is_a_configuration_or_a_mistake_on_one_line(
    name: str, text: str
) -> None:
    variables = Variables({name: text})
    config = read_config(variables, Machine(cores=2), ["\udcff"])
    for mistake in variables.mistakes:
        assert mistake.isprintable()
    logged = as_yaml(config_section(config))
    logged.encode()
    assert all(key in logged for key in ("\nproxyArgs: ", "\ncrlPath: "))


def test_names_that_are_no_utf8_count_as_unset() -> None:
    variables = Variables({"ISTIO_META_\udcff": "x", "ISTIO_META_B": "\udcff", "ISTIO_META_C": "c"})
    assert variables.with_prefix("ISTIO_META_") == [("C", "c")]
