"""Common to all tests: real data where they are, and calm defaults."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("calm", deadline=None)
settings.load_profile("calm")

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """Real images and weights beside the checkout; a test without them says so and is skipped."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data: there is no folder {SHARED.name}/ beside the checkout")
    return SHARED
