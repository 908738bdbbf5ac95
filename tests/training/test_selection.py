"""Which epoch is kept, and in what words."""

import math

import pytest

from weakseg.training.selection import best_epoch


def history(figures, losses=None):
    rows = [{"val_auc": f} for f in figures]
    for row, loss in zip(rows, losses or [], strict=False):
        row["val_loss"] = loss
    return rows


@pytest.mark.parametrize(
    ("figures", "losses", "epoch", "why"),
    [
        ([0.5, 0.75, 0.7], [1, 2, 0], 2, "the highest val_auc (0.75)"),
        (
            [1, 1, 0.9, 1],
            [0.5, 0.25, 0.1, 0.3],
            2,
            "the lowest val_loss (0.25) of the 3 epochs of the highest val_auc (1)",
        ),
        # 0.1 + 0.2 is not 0.3: a sum in another order is no better epoch.
        (
            [0.3, 0.1 + 0.2],
            [1, 2],
            1,
            "the lowest val_loss (1) of the 2 epochs of the highest val_auc (0.3)",
        ),
        ([math.nan, 0.2], [0, 9], 2, "the highest val_auc (0.2)"),
        ([math.nan] * 3, [3, 1, 2], 2, "the lowest val_loss (1), as val_auc is undefined"),
        ([math.nan] * 3, [math.nan, 1, 2], 2, "the lowest val_loss (1), as val_auc is undefined"),
        ([0.5, 0.5], None, 1, "the first of the 2 epochs of the highest val_auc (0.5)"),
    ],
)
def test_the_epoch_and_its_reason(figures, losses, epoch, why):
    assert best_epoch(history(figures, losses), "val_auc") == (epoch, why)


def test_without_a_figure_the_last_epoch_is_kept():
    assert best_epoch(history([1, 0.2, 0.5]), None) == (3, "the last")
