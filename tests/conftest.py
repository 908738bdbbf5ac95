"""Common to all tests: real data where they are, and calm defaults."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("calm", deadline=None)
settings.load_profile("calm")

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """Real image sets and weights beside the checkout; without them a test says so and is skipped."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data: there is no folder {SHARED.name}/ beside the checkout")
    return SHARED
