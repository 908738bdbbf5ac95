"""Networks are begun at random, the largest of their layers at less than its full cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

LARGE = 4_000_000
"""Numbers; VGG's first linear layer has a hundred million, which are drawn in half a second."""


def drawn_in_part(fill: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An initialiser that draws some rows of a large matrix and repeats them."""

    def begin(tensor: Tensor, *args: object, **kwargs: object) -> Tensor:
        if tensor.ndim != 2 or tensor.numel() <= LARGE:
            return fill(tensor, *args, **kwargs)
        rows = max(1, LARGE // tensor.shape[1])
        with torch.no_grad():
            fill(tensor[:rows], *args, **kwargs)  # as wide as the whole: of the same deviation
            for start in range(rows, len(tensor), rows):
                tensor[start : start + rows] = tensor[: min(rows, len(tensor) - start)]
        return tensor

    return begin


@pytest.fixture(scope="module", autouse=True)
def _quickly_begun() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("normal_", "kaiming_uniform_"):
            patch.setattr(nn.init, name, drawn_in_part(getattr(nn.init, name)))
        yield
