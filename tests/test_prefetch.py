"""Work ahead of and behind the caller: in order, bounded, and with its errors."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakseg.prefetch import map_ahead


@given(
    st.lists(st.integers(), max_size=30),
    st.integers(min_value=1, max_value=4),
    st.integers(min_value=0, max_value=9),
)
def test_results_come_in_the_order_of_the_items(items, workers, ahead):
    found = list(map_ahead(lambda x: x * 2, items, workers=workers, ahead=ahead))
    assert found == [x * 2 for x in items]


def test_a_slow_item_holds_back_the_results_behind_it():
    first = threading.Event()

    def work(k):
        if k == 0:
            assert first.wait(5)
        else:
            first.set()
        return k

    assert list(map_ahead(work, range(6), workers=2, ahead=4)) == list(range(6))


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_items_are_taken_than_asked_for(ahead):
    taken = []

    def source():
        for k in range(20):
            taken.append(k)
            yield k

    for done, _ in enumerate(map_ahead(lambda k: k, source(), workers=2, ahead=ahead), 1):
        assert len(taken) < done + ahead
        time.sleep(0.001)
    assert len(taken) == 20


def test_work_goes_on_while_the_caller_is_busy():
    begun = threading.Semaphore(0)

    def work(k):
        begun.release()
        return k

    results = map_ahead(work, range(3), ahead=2)
    assert next(results) == 0
    # The next item is worked on although nobody has asked for it yet.
    assert begun.acquire(timeout=60)
    assert begun.acquire(timeout=60)
    results.close()


def test_an_error_comes_out_and_ends_the_work():
    done = []

    def work(k):
        if k == 2:
            raise KeyError("two")
        done.append(k)
        return k

    found = []
    with pytest.raises(KeyError, match="two"):
        for k in map_ahead(work, range(100), ahead=3):
            found.append(k)
    assert found == [0, 1]
    assert max(done) <= 5


def failing_source():
    yield from (0, 1)
    raise OSError("the source")


def test_an_error_of_work_comes_before_a_later_one_of_the_source():
    def work(k):
        time.sleep(0.05)
        if k == 1:
            raise KeyError("the work")

    with pytest.raises(KeyError, match="the work"):
        list(map_ahead(work, failing_source(), ahead=5))


def test_an_error_of_the_source_comes_out():
    with pytest.raises(OSError, match="the source"):
        list(map_ahead(lambda k: k, failing_source(), ahead=5))


def test_a_caller_that_stops_leaves_no_thread():
    before = threading.active_count()
    for _ in map_ahead(lambda k: k, range(100), workers=3, ahead=5):
        break
    assert threading.active_count() == before
