"""Common to all tests: real data where they are, and calm defaults."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch is loaded: the tests run in as many processes as there are cores, and threads of one
# that wait for another's take its time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("calm", deadline=None)
settings.load_profile("calm")

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """Real images and weights beside the checkout; a test without them says so and is skipped."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data: there is no folder {SHARED.name}/ beside the checkout")
    return SHARED
