"""The bench's table says plainly what was expected and what is below it."""

import json

import pytest

from tests.bench.expectation import Expectation
from tests.bench.run import BENCHES, main, print_rows

LIMIT = Expectation(
    bench="memory", what="peak", measured=50.0, unit="MiB", against="limit", reference=45.0, at_most=1.0
)
PEER = Expectation(
    bench="ingest", what="results/s", measured=30_000, unit="/s", against="raw COPY", reference=100_000, at_least=0.2
)
RECORD = Expectation(bench="memory", what="installed", measured=9.5, unit="MiB")


@pytest.mark.parametrize(
    ("row", "met", "verdict"),
    [(LIMIT, False, "below expectation"), (PEER, True, "as expected"), (RECORD, True, "for the record")],
)
def test_a_measurement_is_judged_by_its_ratio(row: Expectation, met: bool, verdict: str) -> None:  # noqa: FBT001  a table
    assert (row.met, row.verdict) == (met, verdict)


def test_the_table_shows_measurement_reference_and_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([LIMIT, PEER, RECORD], as_json=False)
    _, _, limit, peer, record = capsys.readouterr().out.splitlines()
    assert " ".join(limit.split()) == "peak 50.0 MiB 45.0 MiB (limit) 1.11 (wanted <= 1) below expectation"
    assert " ".join(peer.split()) == "results/s 30,000 /s 100,000 /s (raw COPY) 0.30 (wanted >= 0.2) as expected"
    assert " ".join(record.split()) == "installed 9.5 MiB - - for the record"


def test_json_has_one_object_per_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([LIMIT, RECORD], as_json=True)
    limit, record = map(json.loads, capsys.readouterr().out.splitlines())
    assert (limit["bench"], limit["ratio"], limit["met"]) == ("memory", pytest.approx(50 / 45), False)
    assert (record["ratio"], record["met"]) == (None, True)


def test_an_unknown_bench_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ingestion"])
    assert ended.value.code == 2
    assert f"there are: {', '.join(BENCHES)}" in capsys.readouterr().err
