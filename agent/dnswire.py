"""DNS messages (RFC 1035): one question for the addresses of a name, and what its answer says. Pure.

    query  = header, question, OPT record (EDNS0, RFC 6891: how long an answer may be over UDP)
    answer = header, the same question, records: CNAMEs from name to name, then the addresses of the last one

The answer is foreign: at most `MAX_RECORDS` records are looked at, a compressed name only ever points backwards, and at
most `MAX_CHAIN` CNAMEs are followed. The TTL is the least along the chain.
"""

import struct
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec

UDP_BYTES: Final = 1232
"""What passes every usual path in one piece (the DNS flag day of 2020)."""
MAX_RECORDS: Final = 256
MAX_CHAIN: Final = 16
MAX_JUMPS: Final = 127
"""No name has more labels (RFC 1035 2.3.4)."""
MAX_NAME_BYTES: Final = 255
MAX_LABEL_BYTES: Final = 63
NO_ERROR: Final = 0
NO_SUCH_NAME: Final = 3

_HEADER: Final = struct.Struct(">HHHHHH")
_QUESTION: Final = struct.Struct(">HH")
_RECORD: Final = struct.Struct(">HHIH")
_RESPONSE, _OPCODE, _TRUNCATED, _RECURSE, _RCODE = 0x8000, 0x7800, 0x0200, 0x0100, 0x000F
_INTERNET: Final = 1
_CNAME: Final = 5
_OPT: Final = 41
_POINTER: Final = 0xC0
_SIGNED: Final = 0x8000_0000

Name = tuple[bytes, ...]
"""Labels in lower case: names are equal whatever their case (RFC 4343)."""


class DnsError(ValueError):
    """A message that cannot be written, or is broken. The text says why."""


class Foreign(DnsError):
    """Not the answer to this question: another may still come."""


class Kind(IntEnum):
    """Type of record."""

    A = 1
    AAAA = 28


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One question."""

    id: int
    """16 bits, drawn at random for each question: who cannot see it must guess it."""
    name: str
    kind: Kind


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says."""

    rcode: int
    truncated: bool = False
    """Nothing but the header was read: the rest is to be had over TCP."""
    addresses: tuple[str, ...] = ()
    ttl_seconds: int | None = None
    """None without addresses."""


class _Record(msgspec.Struct, frozen=True):
    name: Name
    kind: int
    ttl_seconds: int
    start: int
    end: int


def encode_query(query: Query) -> bytes:
    """Return the message that asks `query`; raise DnsError when the name is none."""
    header = _HEADER.pack(query.id, _RECURSE, 1, 0, 0, 1)
    opt = b"\0" + _RECORD.pack(_OPT, UDP_BYTES, 0, 0)
    return header + _encode_name(_labels(query.name)) + _QUESTION.pack(query.kind, _INTERNET) + opt


def decode_answer(data: bytes, query: Query) -> Answer:
    """Return the answer to `query`; raise Foreign if it answers something else, DnsError if it is broken."""
    if len(data) < _HEADER.size:
        raise Foreign(f"{len(data)} bytes are no message")
    identity, flags, questions, answers, _, _ = _HEADER.unpack_from(data)
    if identity != query.id or not flags & _RESPONSE or flags & _OPCODE:
        raise Foreign("answers another question")
    position = _question_end(data, query) if questions == 1 else None
    rcode = flags & _RCODE
    if position is None:
        # RFC 1035 4.1.1: who could not read the question may leave it out; only a refusal is believed without it.
        if questions == 0 and rcode not in {NO_ERROR, NO_SUCH_NAME}:
            return Answer(rcode=rcode)
        raise Foreign("answers no question, or more than one")
    if flags & _TRUNCATED:
        return Answer(rcode=rcode, truncated=True)
    addresses, ttl_seconds = _follow(_records(data, position, answers), query, data)
    return Answer(rcode=rcode, addresses=addresses, ttl_seconds=ttl_seconds)


def _question_end(data: bytes, query: Query) -> int:
    name, position = _decode_name(data, _HEADER.size)
    if position + _QUESTION.size > len(data):
        raise DnsError("ends in its question")
    if name != _labels(query.name) or _QUESTION.unpack_from(data, position) != (query.kind, _INTERNET):
        raise Foreign("answers another question")
    return position + _QUESTION.size


def _records(data: bytes, position: int, count: int) -> list[_Record]:
    if count > MAX_RECORDS:
        raise DnsError(f"{count} records: more than {MAX_RECORDS} are not read")
    records = []
    for _ in range(count):
        name, position = _decode_name(data, position)
        if position + _RECORD.size > len(data):
            raise DnsError("ends in a record")
        kind, group, ttl_seconds, length = _RECORD.unpack_from(data, position)
        start = position + _RECORD.size
        position = start + length
        if position > len(data):
            raise DnsError("ends in a record")
        if group == _INTERNET:
            # RFC 2181 8: a TTL with the top bit set is 0.
            records.append(_Record(name, kind, 0 if ttl_seconds & _SIGNED else ttl_seconds, start, position))
    return records


def _follow(records: list[_Record], query: Query, data: bytes) -> tuple[tuple[str, ...], int | None]:
    """Return the addresses at the end of the chain that begins at the question, and the least TTL on the way."""
    name, ttls = _labels(query.name), []
    aliases = {record.name: record for record in records if record.kind == _CNAME}
    for _ in range(MAX_CHAIN):
        alias = aliases.get(name)
        if alias is None:
            break
        ttls.append(alias.ttl_seconds)
        name = _decode_name(data, alias.start)[0]
    else:
        raise DnsError(f"more than {MAX_CHAIN} aliases, or a circle of them")
    found = [record for record in records if record.kind == query.kind and record.name == name]
    addresses = tuple(dict.fromkeys(_address(data[record.start : record.end], query.kind) for record in found))
    ttls += [record.ttl_seconds for record in found]
    return addresses, min(ttls) if addresses else None


def _address(data: bytes, kind: Kind) -> str:
    try:
        return str(IPv4Address(data) if kind is Kind.A else IPv6Address(data))
    except ValueError as exc:
        raise DnsError(f"{len(data)} bytes are no address") from exc


def _labels(name: str) -> Name:
    try:
        labels = tuple(name.removesuffix(".").lower().encode("ascii").split(b"."))
    except UnicodeEncodeError as exc:
        raise DnsError(f"{name!r} is not ASCII") from exc
    if not all(0 < len(label) <= MAX_LABEL_BYTES for label in labels) or _length(labels) > MAX_NAME_BYTES:
        raise DnsError(f"{name!r} is no host name")
    return labels


def _length(labels: Name) -> int:
    return sum(len(label) + 1 for label in labels) + 1


def _encode_name(labels: Name) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _decode_name(data: bytes, position: int) -> tuple[Name, int]:
    """Return the name at `position`, and where the message goes on behind it."""
    labels: list[bytes] = []
    lowest, behind = position, None
    for _ in range(2 * MAX_JUMPS + 1):
        length = _byte(data, position)
        if length & _POINTER == _POINTER:
            behind = position + 2 if behind is None else behind
            position = (length & ~_POINTER) << 8 | _byte(data, position + 1)
            if position >= lowest:
                raise DnsError("a name points at itself or forward")
            lowest = position
        elif length > MAX_LABEL_BYTES:
            raise DnsError("a label of an unknown kind")
        elif length == 0:
            return tuple(labels), position + 1 if behind is None else behind
        else:
            labels.append(data[position + 1 : position + 1 + length].lower())
            position += 1 + length
    raise DnsError("a name without end")


def _byte(data: bytes, position: int) -> int:
    if position >= len(data):
        raise DnsError("ends in a name")
    return data[position]
