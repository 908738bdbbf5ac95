"""Arrays kept in a mapped file: the same values, a limit, and nothing left behind."""

import gc
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from weakseg.data import mapped
from weakseg.data.mapped import MappedStore


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(mapped, "PIECE", 4096)


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, bool, np.float32])
def test_what_is_kept_comes_back(tmp_path, small, dtype):
    store = MappedStore(tmp_path, 2**20)
    rng = np.random.default_rng(0)
    arrays = [(rng.random(s) * 2).astype(dtype) for s in [(3, 5, 7), (1,), (100, 33), (0, 4), ()]]
    kept = [store.keep(a) for a in arrays]
    for array, held in zip(arrays, kept, strict=True):
        assert held.shape == array.shape
        assert held.dtype == array.dtype
        np.testing.assert_array_equal(held, array)
        assert not held.flags.writeable


def test_beyond_its_limit_it_takes_no_more_and_keeps_what_it_has(tmp_path, small):
    store = MappedStore(tmp_path, 8192)
    first = store.keep(np.full(4096, 7, np.uint8))
    assert store.put(np.zeros(8000, np.uint8)) is None
    second = store.keep(np.full(4096, 9, np.uint8))
    assert store.put(np.zeros(1, np.uint8)) is None
    assert (first == 7).all()
    assert (second == 9).all()


def test_arrays_that_belong_together_are_all_kept_or_take_no_room(tmp_path, small):
    store = MappedStore(tmp_path, 8192)
    pair = [np.full(4096, 7, np.uint8), np.ones((3, 5), bool)]
    held = store.keep_all(pair)
    for array, found in zip(pair, held, strict=True):
        assert (found.shape, found.dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(found, array)
        assert not found.flags.writeable
    assert store.keep_all([np.zeros(2048, np.uint8), np.zeros(4096, np.uint8)]) is None
    assert store.keep(np.zeros(4032, np.uint8)) is not None
    assert store.put(np.zeros(1, np.uint8)) is None
    np.testing.assert_array_equal(held[1], pair[1])


def test_zeros_keep_what_is_written_when_their_pages_are_let_go(tmp_path):
    store = MappedStore(tmp_path, 2**27)
    values = store.zeros((3, 2**20), np.float32)
    assert not values.any()
    for k in range(3):
        values[k] += k + 1
        store.let_go()
    assert [float(v.mean()) for v in values] == [1, 2, 3]
    assert values.std(axis=1).max() == 0
    assert store.zeros((2**26,), np.float32) is None  # no room for 256 MB
    assert (values[2] == 3).all()


def test_without_room_it_takes_nothing(tmp_path):
    assert MappedStore(tmp_path, 0).put(np.zeros(3)) is None


@pytest.mark.parametrize(
    ("told", "processes"),
    [
        ({}, 1),
        ({"LOCAL_WORLD_SIZE": "4"}, 4),
        ({"SLURM_STEP_TASKS_PER_NODE": "2(x3),1"}, 2),
        ({"SLURM_STEP_TASKS_PER_NODE": "8"}, 8),
        ({"LOCAL_WORLD_SIZE": "0"}, 1),
        ({"LOCAL_WORLD_SIZE": "none"}, 1),
    ],
)
def test_processes_of_a_machine_share_the_quarter(tmp_path, small, monkeypatch, told, processes):
    for name in ("LOCAL_WORLD_SIZE", "SLURM_STEP_TASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(mapped.shutil, "disk_usage", lambda _: SimpleNamespace(free=4 * 8 * 2**20))
    assert MappedStore(tmp_path).limit == 8 * 2**20 // processes


def test_a_full_disk_is_no_accident(tmp_path, small, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    store = MappedStore(tmp_path, 2**20)
    held = store.keep(np.full(100, 3, np.uint8))
    monkeypatch.setattr(mapped.os, "posix_fallocate", full, raising=False)
    assert store.put(np.zeros(2**19, np.uint8)) is None
    assert (held == 3).all()


def test_where_no_file_can_be_so_large_nothing_is_kept(tmp_path, small, monkeypatch):
    def refused(*_):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mapped.mmap, "mmap", refused)
    store = MappedStore(tmp_path, 2**20)
    assert store.keep(np.ones(3)) is None
    assert store.put(np.ones(3)) is None
    assert list(tmp_path.iterdir()) == []


def test_it_leaves_no_file(tmp_path, small):
    store = MappedStore(tmp_path, 2**20)
    held = store.keep(np.ones(1000))
    assert list(tmp_path.iterdir()) == []  # nameless already
    del store
    gc.collect()
    assert held.sum() == 1000


def test_threads_do_not_share_a_place(tmp_path, small):
    store = MappedStore(tmp_path, 2**22)
    arrays = [np.full(997, k, np.int32) for k in range(500)]
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(store.keep, arrays))
    for array, held in zip(arrays, kept, strict=True):
        np.testing.assert_array_equal(held, array)
