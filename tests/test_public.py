"""What `import weakseg` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import weakseg
from weakseg.errors import DataError

HEAVY = ["torch", "torchvision", "lightning", "pandas", "matplotlib"]
HEAVY += ["scipy", "skimage", "sklearn", "numpy", "PIL"]


@pytest.mark.parametrize("name", weakseg.__all__)
def test_every_name_can_be_touched(name):
    assert callable(getattr(weakseg, name))


def test_importing_it_loads_nothing_heavy():
    code = f"import sys, weakseg; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="dcie"):
        weakseg.dcie  # noqa: B018


def test_names_are_those_of_their_modules():
    mask = np.eye(4, dtype=bool)
    assert weakseg.dice(mask, mask) == 1
    assert weakseg.normalise([[0.0, 2.0]]).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("name", ["read_image", "read_mask"])
def test_a_file_is_named_by_text_or_by_a_path_and_by_nothing_else(name, tmp_path):
    read = getattr(weakseg, name)
    path = tmp_path / "a.png"
    weakseg.write_mask(path, np.eye(9, dtype=bool))
    np.testing.assert_array_equal(read(str(path)), read(path))
    for odd in (None, 3, [], {}, np.zeros((3, 3)), [str(path)], b"a"):
        with pytest.raises(DataError, match="A file was expected"):
            read(odd)
