"""Methods as people say them."""

from __future__ import annotations

import pytest

from weakseg.config import parse_config
from weakseg.heatmaps.cam import LAYERLESS, METHODS
from weakseg.masks.floors import FLOORS
from weakseg.masks.rules import RULES
from weakseg.methods.find import spoken_name
from weakseg.methods.spoken import HEATMAPS
from weakseg.models.segmenters import SEGMENTERS

CONFIG = parse_config(
    {
        "masks": {"rules": ["otsu", "fixed"]},
        "heatmaps": {"fine": {"method": "layercam"}},
        "segmenters": {
            "unet": {"arch": "unet"},
            "own": {"arch": "unet"},
            "weak": {"arch": "unet", "masks": "gradcam-otsu"},
        },
        "consensus": {"both": {"methods": ["gradcam-otsu", "weak"]}},
    }
)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("gradcam-otsu", "Grad-CAM with Otsu's threshold"),
        ("fine-fixed", "LayerCAM (fine) with a fixed threshold"),
        ("unet", "U-Net"),
        ("own", "U-Net (own)"),
        ("weak", "U-Net (weak) trained on the masks of Grad-CAM with Otsu's threshold"),
        ("both", "the agreement of 2 methods (both)"),
        ("floor-brightest-10", "the brightest 10\N{NO-BREAK SPACE}% of every image"),
        ("floor-ellipse", "an ellipse in the middle of every image"),
        ("unheard-of", "unheard-of"),
    ],
)
def test_a_method_is_called_as_people_call_it(method, said):
    assert spoken_name(CONFIG, method) == said


def test_all_formulas_rules_and_networks_have_a_name():
    assert {*METHODS, *LAYERLESS} == set(HEATMAPS)
    assert all(rule.spoken for rule in RULES.values())
    assert all(network.spoken for network in SEGMENTERS.values())
    assert all(spoken_name(CONFIG, floor) != floor for floor in FLOORS)
