"""What a figure shows where there is little to show."""

import pandas as pd
import pytest

from weakseg.report import figures
from weakseg.report.figures import segmenter_figure, training_figure


def metrics(epochs: int) -> pd.DataFrame:
    rows = range(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": list(rows),
            "train_loss": [1 / e for e in rows],
            "val_loss": [1.1 / e for e in rows],
            "val_auc": [1 - 0.5 / e for e in rows],
            "val_dice": [1 - 0.5 / e for e in rows],
        }
    )


@pytest.mark.parametrize(
    ("draw", "lines"),
    [(lambda m: training_figure({0: m}), 3), (lambda m: segmenter_figure({"unet": {0: m}}), 2)],
)
def test_a_single_epoch_is_a_dot_and_several_are_a_line(monkeypatch, draw, lines):
    monkeypatch.setattr(figures, "as_svg", lambda fig, _: fig)
    for epochs, marker in ((1, "o"), (5, "None")):
        drawn = [line for ax in draw(metrics(epochs)).axes for line in ax.lines]
        assert [str(line.get_marker()) for line in drawn] == [marker] * lines
