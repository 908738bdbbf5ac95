"""Memory of freed arrays is kept for the next ones, unless the user has said how."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import resource, sys
import numpy as np
from weakseg.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def use():
    np.ones(64 * 2**20, dtype=np.uint8)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, **environment: str) -> int:
    """Pages that the system had to clear while 64 MB were taken and freed four times."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again():
    # Where the system hands out pages of 2 MB there are 128 of them.
    assert faults("leave") > 100
    assert faults("keep") < 10
    own = {"MALLOC_TRIM_THRESHOLD_": str(128 * 1024), "MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}
    assert faults("keep", **own) > 100


def test_another_c_library_is_left_alone(monkeypatch):
    from weakseg import memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    loaded = []
    monkeypatch.setattr(memory.ctypes, "CDLL", loaded.append)
    memory.keep_freed_memory()
    assert loaded == []


HEAP = """
import sys
import numpy as np
from weakseg.memory import give_large_back, keep_for_training, keep_freed_memory
from weakseg.training.loop import in_precision

def rss():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

keep_freed_memory()
give_large_back()
with in_precision("cpu", "32-true"):
    before = rss()
    np.ones(2**28, dtype=np.uint8)
    kept = rss() - before
if sys.argv[1] == "train":
    keep_for_training()
np.ones(2**28, dtype=np.uint8)
print(kept, rss() - before)
"""


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system is not Linux")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize("then", ["segment", "train"])
def test_freed_volumes_go_back_until_a_training_begins(then):
    """Asking a network for its precision keeps freed memory elsewhere, and undid it once."""
    done = subprocess.run(
        [sys.executable, "-c", HEAP, then], capture_output=True, text=True, check=True
    )
    kept, after = (int(v) for v in done.stdout.split())
    assert kept < 2**25
    assert (after > 2**27) == (then == "train")
