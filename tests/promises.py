"""What we promise about delivery, and which tests hold it: the source of docs/reference/promises.md.

A fault's tests are found by their names (`test_f17_...`); what holds a promise beside them is listed here.
`python -m tests.promises` writes the page anew.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reference" / "promises.md"
FAULT_PREFIX = "test_f"


@dataclass(frozen=True)
class Fault:
    """What is done to the product, and the promises (numbers) that must hold all the same."""

    words: str
    promises: tuple[int, ...]


@dataclass(frozen=True)
class Promise:
    """A sentence, and tests that hold it beside those of faults: paths below tests/."""

    words: str
    tests: tuple[str, ...]


PROMISES = {
    1: Promise(
        "The collector acknowledges a result only after its commit: what is acknowledged is never lost.",
        (
            "system/test_kill.py::test_every_recorded_result_stands_once_whoever_was_killed",
            "system/test_chaos.py::test_random_faults_cost_nothing_but_what_is_declared",
            "system/test_mutants.py::test_the_oracle_finds_a_planted_bug",
        ),
    ),
    2: Promise(
        "A killed agent loses nothing that it recorded; a power cut costs at most the last second.",
        (
            "integration/test_spool.py::test_a_killed_agent_loses_nothing_that_it_had_recorded",
            "integration/test_spool_disk.py::test_the_recording_thread_never_waits_for_the_disk_and_the_disk_is_synced_within_seconds",
            "system/test_chaos.py::test_random_faults_cost_nothing_but_what_is_declared",
        ),
    ),
    3: Promise(
        "Each result counts once, however often it was sent.",
        (
            "integration/test_ingest.py::test_a_repeated_batch_stores_nothing_and_is_all_duplicate",
            "integration/test_ingest.py::test_the_same_batch_ten_times_at_once_is_stored_once",
            "system/test_mutants.py::test_the_oracle_finds_a_planted_bug",
        ),
    ),
    4: Promise(
        "Every loss is counted with its reason, and gaps are visible.",
        (
            "integration/test_spool.py::test_a_full_spool_drops_its_oldest_segment_and_counts_every_result",
            "unit/test_agent_log.py::test_losses_are_counted_by_reason_and_brought_up_to_now_when_told",
            "system/test_chaos.py::test_random_faults_cost_nothing_but_what_is_declared",
        ),
    ),
    5: Promise(
        "The spool stays within its cap, and memory is bounded on both sides.",
        (
            "integration/test_spool_disk.py::test_while_the_disk_refuses_results_wait_in_a_bounded_memory",
            "integration/test_refusals.py::test_a_gzip_bomb_costs_no_more_than_the_limit",
        ),
    ),
    6: Promise(
        "No content of a file can stop an agent from starting.",
        (
            "integration/test_spool.py::test_whatever_lies_in_the_folder_the_agent_starts",
            "integration/test_config_poller.py::test_a_broken_cache_counts_as_none",
        ),
    ),
    7: Promise(
        "The return of a whole fleet does not knock the collector over.",
        (
            "unit/test_push_backoff.py::test_the_first_failure_is_spread_over_three_flushes_and_at_most_half_a_minute",
            "integration/test_refusals.py::test_more_batches_at_once_than_there_are_slots_are_told_to_come_back",
        ),
    ),
    8: Promise(
        "Wall clocks may be wrong: results are dated by the age that a clock without steps gives them.",
        (
            "integration/test_ingest.py::test_the_start_is_told_by_the_boottime_age_whatever_the_wall_clock_says",
            "unit/test_schedule.py::test_a_step_of_the_wall_clock_is_no_miss",
        ),
    ),
    9: Promise(
        "A bad configuration cannot stop a fleet, nor outlive two crashes of an agent.",
        (
            "integration/test_config_poller.py::test_a_bad_answer_leaves_the_present_configuration_in_force",
            "integration/test_config_poller.py::test_a_last_known_configuration_that_cannot_be_applied_does_not_end_the_agent",
        ),
    ),
    10: Promise(
        "An agent writes only as itself; a revoked credential is refused within 30 seconds.",
        (
            "integration/test_refusals.py::test_a_revoked_credential_is_told_so",
            "unit/test_credentials.py::test_a_changed_token_opens_nothing",
        ),
    ),
    11: Promise(
        "A hostile collector cannot steal keys, reach hosts that are not allowed, or overspend.",
        (
            "integration/test_agent_run.py::test_a_collector_that_moves_an_endpoint_does_not_move_its_key",
            "integration/test_agent_run.py::test_the_operator_has_the_last_word_on_what_is_probed",
            "unit/test_budget.py::test_no_probe_begins_once_the_budget_is_used_up",
        ),
    ),
    12: Promise(
        "A hostile agent cannot harm the data of others, `/metrics` or the database.",
        (
            "integration/test_refusals.py::test_a_hostile_envelope_is_refused_and_never_a_fault",
            "integration/test_ingest.py::test_a_target_that_the_agent_does_not_have_is_rejected",
        ),
    ),
    13: Promise(
        "No secret stands in logs, database, metrics, spool or the configuration kept on disk.",
        ("unit/test_agent_log.py::test_secrets_are_replaced_in_messages_and_arguments",),
    ),
    14: Promise(
        "Probing never waits for the way to the collector.",
        (
            "integration/test_agent_run.py::test_while_the_collector_is_away_results_wait_and_arrive_once",
            "integration/test_spool_disk.py::test_the_recording_thread_never_waits_for_the_disk_and_the_disk_is_synced_within_seconds",
        ),
    ),
}

FAULTS = {
    1: Fault("the agent is killed while it records, again and again", (2, 3)),
    2: Fault("the agent is killed between a segment's creation and its first result", (2, 6)),
    3: Fault("the agent is killed at each step of writing, sealing, sending and deleting", (2, 3)),
    4: Fault("the power is cut", (2,)),
    5: Fault("the collector is killed under load", (1, 3)),
    6: Fault("the collector is killed between commit and answer", (1, 3)),
    7: Fault("the collector stands still for half a minute", (1, 3)),
    8: Fault("the agent stands still for a minute", (8, 14)),
    9: Fault("Postgres stops without farewell", (1,)),
    10: Fault("the collector's connections to Postgres are ended again and again", (1,)),
    11: Fault("Postgres and all its children are killed", (1,)),
    12: Fault("a session of Postgres holds a lock and stands still", (1, 7)),
    13: Fault("agent and collector are killed at one instant", (1, 2, 3)),
    14: Fault("the agent is told to stop", (2,)),
    15: Fault("two agents are started on one spool", (2, 3)),
    16: Fault("the agent is started anew twenty times in ten seconds", (2, 5)),
    17: Fault("the last segment is cut at every byte", (4, 6)),
    18: Fault("each byte of a frame is flipped", (4, 6)),
    19: Fault("a frame claims four gigabytes", (5, 6)),
    20: Fault("foreign files, folders and links lie in the spool", (6,)),
    21: Fault("a segment of a later version lies in the spool", (6,)),
    22: Fault("the spool's folder is missing, read-only or removed", (4, 14)),
    23: Fault("the collector is away until the spool is full three times over", (4, 5)),
    24: Fault("another program fills the disk and frees it", (4, 5)),
    25: Fault("the disk has no inodes left", (4, 5)),
    26: Fault("the disk takes half a second for a sync", (14,)),
    27: Fault("the disk fails or a quota is used up", (4, 14)),
    28: Fault("Postgres' own disk is full", (1,)),
    29: Fault("the database is near its limit", (5, 7)),
    30: Fault("all packets are lost for a while", (2, 14)),
    31: Fault("three packets in ten are lost", (3,)),
    32: Fault("connections are cut after any number of bytes", (1, 3)),
    33: Fault("a proxy answers in the collector's place", (1,)),
    34: Fault("the collector's name does not resolve", (2,)),
    35: Fault("the collector's certificate does not hold", (2, 13)),
    36: Fault("the line carries 64 kbit/s and the spool is full", (5, 7)),
    37: Fault("large packets vanish", (2,)),
    38: Fault("every status and every form of Retry-After is answered", (1, 7)),
    39: Fault("the collector takes only small batches", (2,)),
    40: Fault("one poisoned result is answered with 500 for ever", (2,)),
    41: Fault("an acknowledgement names refused results", (4,)),
    42: Fault("the credential is refused for an hour", (2, 7)),
    43: Fault("answers change between 200 and 503", (7,)),
    44: Fault("ten thousand agents come back at once", (7,)),
    45: Fault("ten thousand hostile agents come back at once", (7, 12)),
    46: Fault("configuration is fetched while a fleet comes back", (7,)),
    47: Fault("a new revision goes to ten thousand agents", (7,)),
    48: Fault("a fleet has a day's backlog", (7,)),
    49: Fault("collectors are restarted one after the other", (1, 3)),
    50: Fault("the wall clock jumps while the agent runs", (8,)),
    51: Fault("the agent starts in 1970 and the clock is then set", (8,)),
    52: Fault("the clock drifts", (8,)),
    53: Fault("the way there is longer than the way back", (8,)),
    54: Fault("results claim impossible times", (8, 12)),
    55: Fault("the machine sleeps", (8,)),
    56: Fault("summer time begins", (8,)),
    57: Fault("hostile configurations arrive", (9,)),
    58: Fault("a configuration kills the agent", (9,)),
    59: Fault("kept configurations are damaged", (6, 9)),
    60: Fault("targets shrink sharply or vanish", (9,)),
    61: Fault("a configuration makes every target fail", (9,)),
    62: Fault("the collector refuses during probation", (9,)),
    63: Fault("the configuration has not changed", (9,)),
    64: Fault("canaries fail", (9,)),
    65: Fault("twenty agents use one join token at once", (10,)),
    66: Fault("the answer to a join is lost", (10,)),
    67: Fault("a join token is expired, revoked or used elsewhere", (10,)),
    68: Fault("a credential is stolen", (10,)),
    69: Fault("the agent is killed at each step of a rotation", (10,)),
    70: Fault("the answer to a rotation is lost", (10,)),
    71: Fault("a captured request is sent again", (3, 10)),
    72: Fault("an agent speaks as another", (10, 12)),
    73: Fault("tokens are guessed by timing", (10,)),
    74: Fault("a thousand wrong tokens a second arrive", (7, 10)),
    75: Fault("the database is stolen", (13,)),
    76: Fault("bodies are bombs, damaged or wrongly encoded", (5, 12)),
    77: Fault("bodies are too large or lie about their length", (5, 12)),
    78: Fault("JSON is hostile", (12,)),
    79: Fault("requests trickle", (7, 12)),
    80: Fault("headers are many or huge", (5, 12)),
    81: Fault("labels are ever new", (5, 12)),
    82: Fault("texts try to inject", (12,)),
    83: Fault("requests are random", (12,)),
    84: Fault("the collector has little memory under attack", (5, 12)),
    85: Fault("configuration names hosts that are not allowed", (11,)),
    86: Fault("a name is bound to another address between look-ups", (11,)),
    87: Fault("a key is asked for by another origin", (11, 13)),
    88: Fault("an endpoint redirects elsewhere", (11, 13)),
    89: Fault("configuration asks for too much", (11,)),
    90: Fault("an acknowledgement is endless, huge or a bomb", (5, 11)),
    91: Fault("the collector asks for impossible pauses", (11,)),
    92: Fault("an acknowledgement names another batch", (1, 11)),
    93: Fault("an endpoint streams without end", (5, 11)),
    94: Fault("canary secrets are put everywhere", (13,)),
    95: Fault("key files are readable by all", (13,)),
    96: Fault("all faults at random, for long", (1, 2, 3, 4, 5)),
}

SMALL_SET = (1, 3, 5, 6, 9, 17, 23, 33, 38, 40, 50, 58, 65, 72, 76, 78, 79, 85, 87, 92)
"""Faults that are tried by every `make test`."""

INTRODUCTION = """# Promises

What Isochrone promises about results on their way, agents' identity and configuration, and the tests that hold it.
The paths are below `tests/`. `make test` runs what is quick, `make test-faults` everything: it adds the tests marked
`slow_fault` and over three minutes of random faults. Tests that need a disk or a network of their own are skipped, and
say so, unless they run as root.

The judge of the long runs is an oracle: an agent prints a result once it is on disk, and each line is an obligation. It
must stand in Postgres once, with the content that was printed; nothing may stand there that no agent recorded; what is
missing must have been declared lost for want of room, to the very number; and at least one batch must have arrived
twice, for a run without one proves nothing. Bugs planted in the real programs (acknowledging before the commit, no
check for duplicates, deleting before the acknowledgement) must be found by it.

This page is written by `python -m tests.promises`; a test compares the two.
"""


@cache
def names_of_tests() -> dict[str, str]:
    """Return every test function as path::name, and its name."""
    found = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found[f"{path.relative_to(TESTS)}::{node.name}"] = node.name
    return found


def places_by_fault() -> dict[int, list[str]]:
    """Return the tests of each fault that has any; KeyError for a number that the matrix does not have."""
    found: dict[int, list[str]] = {}
    for place, name in names_of_tests().items():
        number = name.removeprefix(FAULT_PREFIX).partition("_")[0]
        if name.startswith(FAULT_PREFIX) and number.isdigit():
            found.setdefault(int(number), []).append(place)
    return dict(sorted(found.items()))


def quick_tests() -> set[str]:
    """Return the tests, as path::name, that run without being asked for."""
    quick = set()
    for path in sorted(TESTS.rglob("test_*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        marks = [node.value for node in module.body if isinstance(node, ast.Assign) and _is_pytestmark(node)]
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_slow(
                [*marks, *node.decorator_list]
            ):
                quick.add(f"{path.relative_to(TESTS)}::{node.name}")
    return quick


def _is_pytestmark(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)


def _is_slow(marks: list[ast.expr]) -> bool:
    """Tell whether one of the marks is slow_fault; one of a single parameter leaves the others quick."""
    words = [ast.unparse(mark) for mark in marks]
    return any("slow_fault" in word and not word.startswith("pytest.mark.parametrize") for word in words)


def page() -> str:
    """Return docs/reference/promises.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    by_fault = places_by_fault()
    yield INTRODUCTION
    for number, promise in PROMISES.items():
        yield f"## P{number}\n\n{promise.words}\n"
        yield from (f"- `{place}`" for place in promise.tests)
        faults = [f"F{n:02}" for n in by_fault if number in FAULTS[n].promises]
        if faults:
            yield f"- under the faults {', '.join(faults)}"
        yield ""
    yield "## Faults\n"
    yield "| fault | what happens | tests |\n|---|---|---|"
    for n, places in by_fault.items():
        yield f"| F{n:02} | {FAULTS[n].words} | {'<br>'.join(f'`{place}`' for place in places)} |"


def main() -> int:
    """Write the page anew."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(places_by_fault())} of {len(FAULTS)} faults have a test")
    return 0


if __name__ == "__main__":
    sys.exit(main())
