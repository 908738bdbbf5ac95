"""Small npz files: numpy's own to the byte, and nothing that is damaged is taken for one."""

import io

import numpy as np
import pytest

from weakseg.heatmaps.npz import pack, unpack

EXAMPLES = {
    "a heatmap": {
        "values": np.linspace(-1, 1, 12, dtype=np.float16).reshape(3, 4),
        "about": np.asarray('{"layer": "Füllung"}'),
    },
    "a volume's": {"values": np.arange(60, dtype=np.float16).reshape(3, 4, 5)},
    "laid out by columns": {"a": np.asfortranarray(np.arange(6.0).reshape(2, 3))},
    "with gaps": {"a": np.arange(12)[::5], "b": np.arange(12.0).reshape(3, 4).T[::2]},
    "empty": {"a": np.zeros((0, 3), dtype=np.int8), "b": np.float32(3)},
}


@pytest.mark.parametrize("arrays", EXAMPLES.values(), ids=EXAMPLES)
def test_is_what_numpy_writes_and_gives_the_arrays_back(arrays):
    f = io.BytesIO()
    np.savez(f, **arrays)
    packed = pack({k: np.asarray(a) for k, a in arrays.items()})
    assert packed == f.getvalue()
    back = unpack(packed)
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == np.asarray(array).dtype
        np.testing.assert_array_equal(back[name], array)


def test_takes_no_damaged_file():
    whole = pack(EXAMPLES["a heatmap"])
    for at in range(len(whole)):
        assert unpack(whole[:at]) is None
        changed = bytearray(whole)
        changed[at] ^= 0x41
        assert unpack(bytes(changed)) is None
    assert unpack(whole + b"\0") is None


def test_leaves_other_files_to_numpy():
    compressed, objects = io.BytesIO(), io.BytesIO()
    np.savez_compressed(compressed, a=np.arange(3))
    np.savez(objects, a=np.array([{}], dtype=object))
    for f in (compressed, objects):
        assert unpack(f.getvalue()) is None
