"""What `import weakseg` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import weakseg
from tests.heatmaps.test_cam import Bright
from weakseg.errors import DataError, WeaksegError

HEAVY = ["torch", "torchvision", "lightning", "pandas", "matplotlib"]
HEAVY += ["scipy", "skimage", "sklearn", "numpy", "PIL"]


@pytest.mark.parametrize("name", weakseg.__all__)
def test_every_name_can_be_touched(name):
    assert callable(getattr(weakseg, name))


def test_importing_it_loads_nothing_heavy():
    code = f"import sys, weakseg; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.thorough
def test_a_long_load_is_told_once():
    code = "import weakseg; weakseg._PATIENCE = 0; weakseg.raw_cam; weakseg._tell()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["weakseg: loading torch and what goes with it, once"]


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


ODD = [
    None,
    3,
    -1.5,
    True,
    "",
    "no/such/file",
    b"a",
    [],
    {},
    object(),
    len,
    np.zeros((3, 3, 3, 3, 3)),
]
ODD += [np.full((4, 4), np.nan), np.zeros((0, 4)), np.array(["a"]), np.array([[1j]])]
MASK = np.eye(4, dtype=bool)
DATA = weakseg.Config().data
# Every public function, and arguments that are good beside the odd one.
GOOD = {
    "Config": [],
    "WeakSegmenter": [],
    "apply_threshold": [np.eye(4), 0.5],
    "check_manifest": ["no.csv", DATA],
    "compare": [None],
    "dice": [MASK, MASK],
    "explain": [Bright(), np.eye(16), 1],
    "hd95": [MASK, MASK],
    "load_config": ["no.yaml", []],
    "load_method": ["no/run"],
    "make_report": [["no/run"], "out"],
    "normalise": [np.eye(4)],
    "open_run": ["no/run"],
    "otsu_threshold": [np.eye(4)],
    "parse_config": [{}],
    "prepared_run": [None],
    "raw_cam": [None, None, 1, None],
    "read_image": ["no.png"],
    "read_mask": ["no.png"],
    "score_case": [MASK, MASK],
    "summarise": [None],
    "write_mask": ["out.png", MASK],
}


def test_every_public_name_is_tried_with_odd_arguments():
    assert set(GOOD) == set(weakseg.__all__)


def raised_in(e: BaseException) -> str:
    """The module that raised it."""
    frame = e.__traceback__
    while frame.tb_next:
        frame = frame.tb_next
    return frame.tb_frame.f_globals["__name__"]


def refusal(name: str, arguments: list[object]) -> str:
    """What a public function says to arguments; nothing where it takes them."""
    try:
        made = getattr(weakseg, name)(*arguments)
        if hasattr(made, "__enter__"):
            made.__enter__()
    except WeaksegError as e:
        return e.what
    except ValueError as e:
        return str(e) if raised_in(e).startswith("weakseg.") else ""
    return "taken without a word"


@pytest.mark.filterwarnings("ignore:how the network's pictures")
@pytest.mark.parametrize("name", [n for n, good in GOOD.items() if good])
def test_odd_arguments_are_taken_or_refused_in_a_sentence(name, tmp_path, monkeypatch):
    """Refused by weakseg itself: a library's own error, from deep inside, helps nobody."""
    monkeypatch.chdir(tmp_path)
    for place in range(len(GOOD[name])):
        said = [refusal(name, [*GOOD[name][:place], o, *GOOD[name][place + 1 :]]) for o in ODD]
        assert all(len(s) > 10 for s in said)
        assert sum(s != "taken without a word" for s in said) >= 5
