"""Common to all tests: real data where they are, and calm defaults."""

import gc
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch is loaded: the tests run in as many processes as there are cores, and threads of one
# that wait for another's take its time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where the shell forbids Python to keep what it has compiled, every process that tests start would
# compile torch and its friends anew, for six seconds each. It is kept, but beside nobody's sources.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    sys.dont_write_bytecode = False
    kept = Path(__file__).parents[1] / ".pytest_cache" / "bytecode"
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(kept)

TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with whole runs begin first: what ends last, while a core is idle, is short."""
    items.sort(key=lambda item: item.path.parent != TESTS)


def pytest_collection_finish() -> None:
    """What is imported by now stays: looking through it again for garbage takes 0.2 s a time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Or modules would be told to leak at the end."""
    gc.unfreeze()


settings.register_profile("calm", deadline=None)
settings.load_profile("calm")

SHARED = TESTS.parents[1] / "shared"


@pytest.fixture
def shared() -> Path:
    """Real images and weights beside the checkout; a test without them says so and is skipped."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data: there is no folder {SHARED.name}/ beside the checkout")
    return SHARED


@pytest.fixture
def random_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of the extra ``crf``, or where it is not installed what stands in for it."""
    if find_spec("pydensecrf") is None:
        from tests.mean_field import stand_in  # numpy must find OMP_NUM_THREADS set

        for name, module in stand_in().items():
            monkeypatch.setitem(sys.modules, name, module)
