"""Wire encoding: results and batches as JSON bytes, and back with every value checked.

Rules of the contract:
- a field that is None or at its default is left out; a field that this release does not know is ignored (newer agent);
- a value outside its bounds, an unknown outcome, the infinity of 1e999 or a NUL refuses the one result that holds it,
  and names the path;
- a bad envelope, and bytes that are no JSON (NaN, Infinity, a lone surrogate), refuse the batch, and name the path or
  the byte: an agent then halves the batch until the bad result stands alone.
"""

import msgspec

from isochrone.batch import Ack, Batch, Envelope, Rejected
from isochrone.names import decoding, printable
from isochrone.result import Result

_encoder = msgspec.json.Encoder()
_batch_decoder = msgspec.json.Decoder(Batch)
_envelope_decoder = msgspec.json.Decoder(Envelope)
_result_decoder = msgspec.json.Decoder(Result)
_ack_decoder = msgspec.json.Decoder(Ack)

_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it does not take. RecursionError: an unknown field, nested a thousand deep."""


class WireError(ValueError):
    """Bytes that are no message of the contract. The text names the path and what was expected there."""


class _SeqOnly(msgspec.Struct):
    seq: int


_seq_decoder = msgspec.json.Decoder(_SeqOnly)


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as it came: the good results, and the refused ones by name."""

    batch: Batch
    rejected: tuple[Rejected, ...] = ()


def encode_result(result: Result) -> bytes:
    """Return the result as one line of JSON without a line end."""
    return _encoder.encode(result)


def decode_result(data: bytes) -> Result:
    """Return the result in `data`, or raise WireError naming the path."""
    try:
        with decoding():
            return _result_decoder.decode(data)
    except _REFUSED as exc:
        raise WireError(str(exc)) from exc


def encode_batch(batch: Batch, encoded_results: list[bytes] | None = None) -> bytes:
    """Return the batch as JSON; `encoded_results`, when given, stand in for `batch.results`, byte for byte."""
    if encoded_results is None:
        return _encoder.encode(batch)
    raw = tuple(msgspec.Raw(line) for line in encoded_results)
    fields = {name: getattr(batch, name) for name in Envelope.__struct_fields__ if name != "results"}
    return _encoder.encode(Envelope(**fields, results=raw))


def decode_batch(data: bytes) -> Decoded:
    """Return the batch in `data` with its good results; raise WireError when the envelope itself is bad."""
    with decoding():
        try:
            return Decoded(batch=_batch_decoder.decode(data))
        except _REFUSED:
            return _decode_one_by_one(data)


def encode_ack(ack: Ack) -> bytes:
    """Return the acknowledgement as JSON."""
    return _encoder.encode(ack)


def decode_ack(data: bytes) -> Ack:
    """Return the acknowledgement in `data`, or raise WireError: then it is none."""
    try:
        return _ack_decoder.decode(data)
    except _REFUSED as exc:
        raise WireError(str(exc)) from exc


def full_json(result: Result, **more: object) -> bytes:
    """Return the result as one line of JSON in which every field stands, null where nothing was measured.

    `more` are fields that stand before the result's own (`boot_id`).
    """
    return _encoder.encode({**more, **_full_fields(result)})


def _decode_one_by_one(data: bytes) -> Decoded:
    try:
        envelope = _envelope_decoder.decode(data)
    except _REFUSED as exc:
        raise WireError(str(exc)) from exc
    good: list[Result] = []
    rejected: list[Rejected] = []
    for index, raw in enumerate(envelope.results):
        try:
            good.append(_result_decoder.decode(raw))
        except _REFUSED as exc:
            rejected.append(Rejected(seq=_seq_of(raw), index=index, reason=_reason(exc, index)))
    fields = {name: getattr(envelope, name) for name in Envelope.__struct_fields__ if name != "results"}
    return Decoded(batch=Batch(**fields, results=tuple(good)), rejected=tuple(rejected))


def _reason(error: Exception, index: int) -> str:
    """Return the error with its path from the batch's root; msgspec names none when the result itself is meant."""
    place = f"`$.results[{index}]"
    text = str(error)
    return printable(text.replace("`$", place) if "`$" in text else f"{text} - at {place}`")


def _seq_of(raw: msgspec.Raw) -> int | None:
    try:
        return _seq_decoder.decode(raw).seq
    except _REFUSED:
        return None


def _full_fields(struct: msgspec.Struct) -> dict[str, object]:
    values = ((name, getattr(struct, name)) for name in struct.__struct_fields__)
    return {name: _full_fields(value) if isinstance(value, msgspec.Struct) else value for name, value in values}
