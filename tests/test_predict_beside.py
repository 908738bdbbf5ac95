"""Writing beside the network: in order, nothing lost, little in memory."""

from concurrent.futures import CancelledError
from threading import Event, Timer
from time import sleep

import pytest

from weakseg.errors import DataError
from weakseg.predicting.beside import LARGE, WAITING, begun, writing_beside


def test_an_image_is_written_while_the_next_one_is_predicted():
    done = []

    def write(name, after):
        assert after.wait(20)
        done.append(name)
        return {"file": name}

    with writing_beside() as begin:

        def one(cases):
            for case, predicted in zip(cases, next_is, strict=True):
                yield begin(1, lambda c=case, p=predicted: write(c, p))
                predicted.set()  # what "a" waits for happens only once "a" has been begun

        next_is = [Event(), Event()]
        rows = begun(one, ["a", "b"])
        assert rows() == [{"file": "a"}, {"file": "b"}]
    assert done == ["a", "b"]


def test_a_large_prediction_is_written_before_the_next_is_made():
    with writing_beside() as begin:
        written = []
        begin(LARGE + 1, lambda: written.append("volume") or {})
        assert written == ["volume"]

        def broken():
            raise DataError("no room")

        row = begin(LARGE + 1, broken)
        with pytest.raises(DataError, match="no room"):
            row()


def test_an_unreadable_image_is_told_once_those_before_it_are_written():
    written = []
    with writing_beside() as begin:

        def one(cases):
            for case in cases:
                if case == "bad":
                    raise DataError("bad cannot be read")
                yield begin(1, lambda c=case: written.append(c) or {"file": c})

        rows = begun(one, ["a", "b", "bad", "c"])
        with pytest.raises(DataError, match="bad cannot be read"):
            rows()
        assert written == ["a", "b"]
        assert begun(one, ["c"])() == [{"file": "c"}]


def test_images_do_not_pile_up_before_a_slow_disk():
    done, in_memory = [], []

    def write(case):
        sleep(0.002)
        done.append(case)
        if case % 3 == 0:
            raise DataError(f"no room for {case}")
        return {"file": case}

    rows = []
    with writing_beside() as begin:
        for case in range(5 * WAITING):
            rows.append(begin(1, lambda c=case: write(c)))
            in_memory.append(case + 1 - len(done))
        assert rows[1]() == {"file": 1}
        with pytest.raises(DataError, match="no room for 3"):
            rows[3]()
        assert rows[-1]() == {"file": 5 * WAITING - 1}
    assert max(in_memory) <= WAITING
    assert done == [*range(5 * WAITING)]


def test_what_waits_is_cancelled_when_all_breaks_off():
    written, go_on = [], Event()
    with pytest.raises(KeyboardInterrupt), writing_beside() as begin:
        begin(1, lambda: go_on.wait(20) and {})
        rows = [begin(1, lambda c=c: written.append(c) or {}) for c in range(WAITING - 1)]
        Timer(0.05, go_on.set).start()  # after what waits was cancelled
        raise KeyboardInterrupt
    with pytest.raises(CancelledError):
        rows[-1]()
    assert not written
    with pytest.raises(RuntimeError, match="after shutdown"):
        begin(1, dict)
