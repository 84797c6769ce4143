"""F93: streams for ever, events of 1 GB and invalid UTF-8 are cut at their limits, and recorded as what they are.

`tests/accuracy/test_hostile_endpoints.py` has a hundred more.
"""

import pytest

from isochrone.wire import decode_result, encode_result
from tests.accuracy.attacks import ANSWER_BYTES, FLOODS, LIES, TRICKLES
from tests.accuracy.hostile import MEMORY_BYTES, SLACK_SECONDS, SOCKET_BYTES, Attacker, bear
from tests.simulated import KEY, inference

pytestmark = pytest.mark.anyio

NAMED = (
    "tokens without end",
    "events without end",
    "a token for ever and ever",
    "an event of 1 GB in one line",
    "an event of 1 GB in many lines",
    "a frame of 1 GB",
    "invalid UTF-8 in JSON of an event",
    "invalid UTF-8 in the header",
)
ATTACKS = FLOODS | TRICKLES | LIES
LONGEST_SECONDS = 30.0


@pytest.mark.parametrize("name", NAMED)
async def test_f93_a_stream_without_end_or_sense_ends_as_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.transport.http.MAX_ANSWER_BYTES", ANSWER_BYTES)
    attack = ATTACKS[name]
    attacker = Attacker(answers=lambda: [attack.pieces()])
    with attacker.open() as url:
        target = inference(
            url,
            provider=attack.provider,
            timeout=attack.timeout,
            first_token=attack.first_token,
            stall=attack.stall,
        )
        borne = await bear(target)
    result = borne.result
    assert (result.outcome, attack.reason in str(result.reason)) == (attack.outcome, True), result.reason
    assert result.duration_seconds is None
    assert decode_result(encode_result(result)) == result
    assert KEY.encode() not in encode_result(result)
    assert attacker.pushed <= attack.most_bytes + SOCKET_BYTES
    assert borne.peak_bytes < MEMORY_BYTES
    assert borne.seconds < (LONGEST_SECONDS if attack.ends_within is None else attack.ends_within + SLACK_SECONDS)
