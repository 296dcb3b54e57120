"""SPIFFE IDs in Istio's form; the same rules and sentences as `rust/mesh/src/identity.rs`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ztunnel.errors import IdentityError
from ztunnel.spelling import SEGMENT_RULE, TRUST_DOMAIN_RULE, is_segment, is_trust_domain

# SPIFFE-ID standard §2.3, in bytes.
MAX_SPIFFE_ID = 2048


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """`spiffe://<trust domain>/ns/<namespace>/sa/<service account>`; always well formed."""

    trust_domain: str
    namespace: str
    service_account: str

    def __post_init__(self) -> None:
        """Refuses parts that would give one identity two spellings."""
        if not is_trust_domain(self.trust_domain):
            raise IdentityError(
                f"not a SPIFFE trust domain ({TRUST_DOMAIN_RULE}): {_shown(self.trust_domain)}"
            )
        for segment in (self.namespace, self.service_account):
            if not is_segment(segment):
                raise IdentityError(
                    f"not a SPIFFE path segment ({SEGMENT_RULE}): {_shown(segment)}"
                )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads the text form (spec/control.md §7.1); `IdentityError` says what is wrong with it."""
        parts = text.removeprefix("spiffe://").split("/")
        too_long = len(text.encode("utf-8", "replace")) > MAX_SPIFFE_ID
        if (
            too_long
            or not text.startswith("spiffe://")
            or len(parts) != 5
            or (parts[1], parts[3]) != ("ns", "sa")
        ):
            form = "spiffe://<trust domain>/ns/<namespace>/sa/<service account>"
            raise IdentityError(f"not a SPIFFE ID of the form {form}: {_shown(text)}")
        return cls(parts[0], parts[2], parts[4])

    def __str__(self) -> str:
        """The text form."""
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def _shown(text: str) -> str:
    return f"`{text[:128]}`"
