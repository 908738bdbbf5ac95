"""What was read of files is held while there is room, and read again once it has changed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from weakseg.data.held import Held
from weakseg.data.images import held_image, read_image


def test_forgets_the_oldest_where_there_is_no_room(tmp_path):
    held, read = Held(250), []

    def look(name: str) -> None:
        held.get(tmp_path / name, (), lambda: read.append(name) or np.zeros(100, np.uint8))

    for name in ("a", "b"):
        (tmp_path / name).touch()
        look(name)
    look("a")  # the oldest is b from now on
    (tmp_path / "c").touch()
    look("c")
    assert read == ["a", "b", "c"]
    assert held.peek(tmp_path / "b", ()) is None
    look("a")
    look("b")  # takes the place of c
    look("c")
    assert read == ["a", "b", "c", "b", "c"]
    held.clear()
    for name in ("b", "c"):
        look(name)
    assert read == ["a", "b", "c", "b", "c", "b", "c"]
    assert held.peek(tmp_path / "b", ()) is not None


def test_forgets_the_oldest_of_too_many_however_small(tmp_path):
    held = Held(2**30, most=2)
    for name in "abc":
        (tmp_path / name).touch()
        held.get(tmp_path / name, (), lambda: np.zeros(1, np.uint8))
    assert [held.peek(tmp_path / name, ()) is None for name in "abc"] == [True, False, False]


def test_reads_once_for_several_threads_and_again_after_an_error(tmp_path):
    held, tries = Held(2**20), []

    def read() -> int:
        tries.append(0)
        if len(tries) == 1:
            raise ValueError("not yet")
        return 7

    with pytest.raises(ValueError, match="not yet"):
        held.get(tmp_path, (), read)
    assert not held._reading  # of thousands of damaged files nothing is kept
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: held.get(tmp_path, (), read), range(20))) == {7}
    assert len(tries) == 2
    assert not held._reading


def test_a_held_image_is_that_of_its_file_and_nobody_changes_it(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(path)
    first = held_image(path)
    np.testing.assert_array_equal(first, read_image(path))
    assert held_image(path) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 9
    Image.fromarray(np.zeros((2, 2), dtype=np.uint8)).save(path)
    assert held_image(path).shape == (2, 2)
