"""Writing beside the network: in order, nothing lost, little in memory."""

from threading import Event

import pytest

from weakseg.errors import DataError
from weakseg.predicting.beside import LARGE, begun, writing_beside


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
