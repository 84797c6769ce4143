"""`docs/reference/promises.md` lists every promise with tests that exist, and every fault that has a test."""

import pytest

from tests.promises import FAULTS, PAGE, PROMISES, SMALL_SET, names_of_tests, page, places_by_fault, quick_tests


def test_the_page_is_what_the_tests_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.promises"


@pytest.mark.parametrize("number", PROMISES)
def test_every_promise_is_held_by_tests_that_exist(number: int) -> None:
    assert PROMISES[number].tests
    assert set(PROMISES[number].tests) <= names_of_tests().keys()


def test_every_number_in_a_tests_name_is_a_fault_of_the_matrix() -> None:
    assert places_by_fault().keys() <= FAULTS.keys()
    assert list(FAULTS) == list(range(1, 97))


def test_every_fault_holds_promises_that_exist() -> None:
    assert all(fault.promises and set(fault.promises) <= PROMISES.keys() for fault in FAULTS.values())


@pytest.mark.parametrize("number", SMALL_SET)
def test_the_small_set_is_tried_by_every_run_of_the_tests(number: int) -> None:
    assert quick_tests() & set(places_by_fault()[number]), "all its tests are marked slow_fault"
