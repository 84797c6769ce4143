"""DNS messages: what is asked comes back, and no answer, however broken, does more than be refused."""

import itertools
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dnswire import MAX_CHAIN, Answer, DnsError, Foreign, Kind, Query, decode_answer, encode_query
from tests.name_server import AAAA, CNAME, NXDOMAIN, SERVFAIL, A, Record, message, question_of

NAME = "api.example.org"
ASKED = Query(id=0x1234, name=NAME, kind=Kind.A)
LABELS = st.text("abcxyz019-_", min_size=1, max_size=20)
NAMES = st.lists(LABELS, min_size=1, max_size=6).map(".".join)
KINDS = st.sampled_from(Kind)
TTLS = st.integers(0, 2**31 - 1)


def decoded(*records: Record, rcode: int = 0, truncated: bool = False) -> Answer:
    return decode_answer(message(encode_query(ASKED), records, rcode=rcode, truncated=truncated), ASKED)


@given(st.integers(0, 0xFFFF), NAMES, KINDS)
def test_a_question_is_written_as_it_is_meant(identity: int, name: str, kind: Kind) -> None:
    data = encode_query(Query(id=identity, name=name, kind=kind))
    assert struct.unpack_from(">HHHHHH", data) == (identity, 0x0100, 1, 0, 0, 1)
    assert question_of(data) == (name, kind)
    assert data[-11:] == b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0)


@given(NAMES, KINDS, st.data())
def test_addresses_and_the_least_ttl_of_the_chain_come_back(name: str, kind: Kind, data: st.DataObject) -> None:
    query = Query(id=7, name=name, kind=kind)
    chain = [name, *data.draw(st.lists(NAMES, max_size=5, unique=True).filter(lambda names: name not in names))]
    kinds = {Kind.A: st.builds(IPv4Address, st.integers(0, 2**32 - 1)), Kind.AAAA: st.ip_addresses(v=6)}
    addresses = data.draw(st.lists(kinds[kind].map(str), min_size=1, max_size=5, unique=True))
    records = [Record(here, CNAME, there, data.draw(TTLS)) for here, there in itertools.pairwise(chain)]
    records += [Record(chain[-1], kind, address, data.draw(TTLS)) for address in addresses]
    shuffled = data.draw(st.permutations([r for r in records if r.kind == CNAME])) + [
        r for r in records if r.kind != CNAME
    ]
    answer = decode_answer(message(encode_query(query), tuple(shuffled)), query)
    assert answer.addresses == tuple(addresses)
    assert answer.ttl_seconds == min(record.ttl for record in records)


@given(st.binary(max_size=600))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    head = struct.pack(">HHHHHH", ASKED.id, 0x8180, 1, 3, 0, 0)
    for whole in (data, head + data, message(encode_query(ASKED), (Record(NAME, A, "10.0.0.1"),))[:-6] + data):
        try:
            answer = decode_answer(whole, ASKED)
        except DnsError:
            continue
        assert (answer.ttl_seconds is None) == (not answer.addresses)


@given(st.integers(12, 200), st.binary(min_size=1, max_size=3))
def test_an_answer_damaged_in_one_place_does_no_more_than_be_refused(place: int, piece: bytes) -> None:
    records = (Record(NAME, CNAME, "b.example.org"), Record("b.example.org", A, "10.0.0.1"))
    data = message(encode_query(ASKED), records)
    place = min(place, len(data))
    for damaged in (data[:place] + piece + data[place + len(piece) :], data[:place]):
        try:
            decode_answer(damaged, ASKED)
        except DnsError:
            continue


@given(st.text(max_size=300))
def test_what_is_no_name_is_not_asked_for(name: str) -> None:
    try:
        encode_query(Query(id=1, name=name, kind=Kind.A))
    except DnsError:
        return
    assert all(0 < len(label) < 64 for label in name.removesuffix(".").split("."))


def test_names_are_equal_whatever_their_case() -> None:
    data = message(encode_query(ASKED), (Record("API.Example.ORG", A, "10.0.0.1"),))
    data = data.replace(b"\x03api\x07example", b"\x03aPi\x07eXample", 1)
    assert decode_answer(data, ASKED).addresses == ("10.0.0.1",)
    query = Query(id=ASKED.id, name=NAME.upper() + ".", kind=Kind.A)
    assert decode_answer(data, query).addresses == ("10.0.0.1",)


def test_a_compressed_name_is_read() -> None:
    data = bytearray(message(encode_query(ASKED)))
    data[6:8] = b"\0\2"
    data += b"\xc0\x0c" + struct.pack(">HHIH", CNAME, 1, 50, 6) + b"\x03cdn\xc0\x10"
    target = len(data) - 6
    data += struct.pack(">H", 0xC000 | target) + struct.pack(">HHIH", A, 1, 40, 4) + b"\x0a\0\0\1"
    assert decode_answer(bytes(data), ASKED) == Answer(rcode=0, addresses=("10.0.0.1",), ttl_seconds=40)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"\xc0\x21", "itself or forward"),
        (b"\xc0\x25", "itself or forward"),
        (b"\x01a\xc0\x21", "itself or forward"),
        (b"\x80", "unknown kind"),
        (b"\x3f", "ends in a name"),
        (b"", "ends in a record"),
    ],
)
def test_a_name_that_has_no_end_is_refused(name: bytes, words: str) -> None:
    data = bytearray(message(encode_query(ASKED)))
    assert len(data) == 0x21  # where the name of the first record stands
    data[6:8] = b"\0\1"
    with pytest.raises(DnsError, match=words):
        decode_answer(bytes(data) + name + bytes(2), ASKED)


def test_a_circle_of_aliases_is_refused_and_a_long_chain_too() -> None:
    with pytest.raises(DnsError, match="circle"):
        decoded(Record(NAME, CNAME, "b"), Record("b", CNAME, NAME), Record(NAME, A, "10.0.0.1"))
    chain = [NAME, *(f"n{index}" for index in range(MAX_CHAIN + 1))]
    with pytest.raises(DnsError, match="aliases"):
        decoded(*(Record(here, CNAME, there) for here, there in itertools.pairwise(chain)))


@pytest.mark.parametrize(
    "records",
    [
        (Record("other.example.org", A, "10.0.0.1"),),
        (Record(NAME, CNAME, "b.example.org"), Record(NAME, A, "10.0.0.1")),
        (Record(NAME, AAAA, "::1"),),
        (),
    ],
)
def test_an_address_that_is_not_at_the_end_of_the_chain_counts_for_nothing(records: tuple[Record, ...]) -> None:
    assert decoded(*records) == Answer(rcode=0)


def test_a_ttl_with_the_top_bit_set_is_none_at_all() -> None:
    assert decoded(Record(NAME, A, "10.0.0.1", ttl=2**31)).ttl_seconds == 0


def test_codes_and_truncation_are_told() -> None:
    assert decoded(rcode=NXDOMAIN) == Answer(rcode=NXDOMAIN)
    assert decoded(rcode=SERVFAIL) == Answer(rcode=SERVFAIL)
    assert decoded(Record(NAME, A, "10.0.0.1"), truncated=True) == Answer(rcode=0, truncated=True)


@pytest.mark.parametrize(
    "asked",
    [
        Query(id=0x1235, name=NAME, kind=Kind.A),
        Query(id=0x1234, name="api.example.com", kind=Kind.A),
        Query(id=0x1234, name=NAME, kind=Kind.AAAA),
    ],
)
def test_the_answer_to_another_question_is_foreign(asked: Query) -> None:
    data = message(encode_query(ASKED), (Record(NAME, A, "10.0.0.1"),))
    assert decode_answer(data, ASKED).addresses == ("10.0.0.1",)
    with pytest.raises(Foreign):
        decode_answer(data, asked)
    with pytest.raises(Foreign):
        decode_answer(encode_query(ASKED), ASKED)


def test_addresses_of_the_wrong_length_and_too_many_records_are_refused() -> None:
    data = message(encode_query(ASKED), (Record(NAME, A, "10.0.0.1"),))
    short = data[:-6] + b"\0\3" + data[-4:-1]
    with pytest.raises(DnsError, match="no address"):
        decode_answer(short, ASKED)
    many = tuple(Record(NAME, A, str(IPv4Address(index)), 5) for index in range(257))
    with pytest.raises(DnsError, match="257 records"):
        decoded(*many)
    assert len(decoded(*many[:256]).addresses) == 256


def test_an_ipv6_address_has_its_usual_form() -> None:
    query = Query(id=1, name=NAME, kind=Kind.AAAA)
    records = (Record(NAME, AAAA, str(IPv6Address("2001:db8:0:0:0:0:0:1"))),)
    assert decode_answer(message(encode_query(query), records), query).addresses == ("2001:db8::1",)
