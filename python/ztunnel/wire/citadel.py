"""`istio.v1.auth`: the two messages of `IstioCertificateService.CreateCertificate` (spec/control.md §6.4)."""

from __future__ import annotations

from dataclasses import dataclass

from ztunnel.wire.protobuf import NotProtobuf, bytes_field, fields, integer_field, text_field

CREATE_CERTIFICATE = "/istio.v1.auth.IstioCertificateService/CreateCertificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """`IstioCertificateRequest`."""

    csr: str
    validity_duration: int
    """Seconds."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Of the Struct, the texts: nobody sends anything else."""

    def encode(self) -> bytes:
        """As the wire has it."""
        message = text_field(1, self.csr) + integer_field(3, self.validity_duration)
        return message + (bytes_field(4, _struct(self.metadata)) if self.metadata else b"")

    @classmethod
    def decode(cls, message: bytes) -> CertificateRequest:
        """The counterpart, for authorities; `NotProtobuf`."""
        csr, validity, metadata = "", 0, list[tuple[str, str]]()
        for number, value in fields(message):
            match number, value:
                case 1, bytes():
                    csr = _text(value)
                case 3, int():
                    validity = value - (1 << 64) if value >> 63 else value
                case 4, bytes():
                    metadata += _entries(value)
                case _:
                    pass
        return cls(csr=csr, validity_duration=validity, metadata=tuple(metadata))


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateResponse:
    """`IstioCertificateResponse`."""

    cert_chain: tuple[str, ...]
    """PEM: the leaf, intermediates, and last a bundle of roots."""

    def encode(self) -> bytes:
        """As the wire has it."""
        return b"".join(bytes_field(1, element.encode()) for element in self.cert_chain)

    @classmethod
    def decode(cls, message: bytes) -> CertificateResponse:
        """Ignores fields that it does not know; `NotProtobuf`."""
        return cls(
            cert_chain=tuple(
                _text(value)
                for number, value in fields(message)
                if number == 1 and isinstance(value, bytes)
            )
        )


def _struct(entries: tuple[tuple[str, str], ...]) -> bytes:
    """`google.protobuf.Struct` of texts: `fields` is a map, whose entries are messages {key = 1, value = 2}.

    Key and value of an entry are written even if they are empty, as every implementation does.
    """
    return b"".join(
        bytes_field(
            1, bytes_field(1, key.encode()) + bytes_field(2, bytes_field(3, value.encode()))
        )
        for key, value in entries
    )


def _entries(struct: bytes) -> list[tuple[str, str]]:
    found = []
    for number, entry in fields(struct):
        if number == 1 and isinstance(entry, bytes):
            parts = {n: v for n, v in fields(entry) if isinstance(v, bytes)}
            value = {n: v for n, v in fields(parts.get(2, b"")) if isinstance(v, bytes)}
            found.append((_text(parts.get(1, b"")), _text(value.get(3, b""))))
    return found


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise NotProtobuf("a text that is not UTF-8") from None
