"""Adversarial climbing: steps by hand on a linear network, and what is held."""

import pytest
import torch

from tests.heatmaps.test_cam import Bright
from weakseg.config import ClimbConfig, HeatmapConfig, parse_config
from weakseg.data.cases import Labels
from weakseg.engines.graph import ExportError
from weakseg.errors import ConfigError
from weakseg.heatmaps.by_engine import require_formula
from weakseg.heatmaps.climb import climbed, sum_of_climb
from weakseg.heatmaps.compute import heatmap
from weakseg.heatmaps.explaining import explain
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier

LABELS = Labels(("healthy",), ("lesion",))
RATE = 0.01


def spot():
    image = torch.full((1, 1, 16, 16), 0.02)
    image[0, 0, 8, 8] = 1 - 4 * RATE
    return image


def steps(count, hold, image=None):
    how = ClimbConfig(steps=count, rate=RATE, hold=hold)
    model = Bright()
    return list(climbed(model, model.conv, spot() if image is None else image, (1,), "logit", how))


def test_a_step_of_a_linear_network_is_its_gradient_over_the_largest():
    """Each pixel adds as many ninths as there are 3 x 3 windows on it: 9, at edges 6, in corners
    4."""
    (now,) = steps(1, hold=0)
    change = (now - spot())[0, 0] / RATE
    assert change[8, 8] == pytest.approx(1, abs=1e-4)
    assert change[0, 5] == pytest.approx(6 / 9, abs=1e-4)
    assert change[15, 0] == pytest.approx(4 / 9, abs=1e-4)


def test_what_is_hot_from_the_beginning_is_held_and_the_rest_goes_on():
    """At first nothing has changed, so that nothing is held; then the price outweighs the score
    around the spot, whose pixel goes back by one rate, and a far one stays."""
    first, second = steps(2, hold=1e6)
    assert float((first - spot())[0, 0, 8, 8]) == pytest.approx(RATE, abs=1e-6)
    assert float((second - first)[0, 0, 8, 8]) == pytest.approx(-RATE, abs=1e-6)
    assert float((second - first)[0, 0, 2, 2]) == pytest.approx(0, abs=1e-6)
    *_, free = steps(2, hold=0)
    assert float((free - spot())[0, 0, 8, 8]) == pytest.approx(2 * RATE, abs=1e-6)


def test_pixels_stay_in_range_and_the_network_is_left_as_it_was():
    white, model = torch.ones(1, 1, 8, 8), Bright().train()
    with torch.inference_mode():
        (now,) = climbed(model, "conv", white, (1,), "logit", ClimbConfig(steps=1))
    assert float(now.max()) == 1
    assert model.training
    assert not model.conv._forward_hooks
    assert all(p.grad is None for p in model.parameters())


def test_a_network_without_a_slope_changes_nothing():
    model = Bright()
    torch.nn.init.zeros_(model.fc.weight)
    (now,) = climbed(model, "conv", spot(), (1,), "logit", ClimbConfig(steps=1))
    torch.testing.assert_close(now, spot())


def test_maps_are_added_over_their_maxima_and_keep_the_first_ones():
    """(1/2, 1) + (1, 0) = (3/2, 1), over its maximum (1, 2/3), times 4."""
    maps = [torch.tensor([[[2.0, 4.0]]]), torch.tensor([[[10.0, -3.0]]])]
    torch.testing.assert_close(sum_of_climb(maps), torch.tensor([[[4.0, 8 / 3]]]))


@pytest.fixture(scope="module")
def squeezenet():
    torch.manual_seed(0)
    return build_classifier(ClassifierSpec("squeezenet1_1", ("healthy", "lesion"), 1)).eval()


def test_of_a_step_of_nothing_the_heatmap_is_that_of_the_image(squeezenet):
    images = torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    plain = HeatmapConfig(method="layercam", layer="fused", flips=True, score="log-odds")
    still = plain.model_copy(update={"climb": ClimbConfig(steps=1, rate=1e-7)})
    far = plain.model_copy(update={"climb": ClimbConfig(steps=3, rate=0.1)})
    name, maps, p = explain(squeezenet, LABELS, images, plain)
    same = explain(squeezenet, LABELS, images, still)
    assert same[0] == name
    torch.testing.assert_close(same[1], maps, rtol=1e-3, atol=1e-5)
    _, other, q = explain(squeezenet, LABELS, images, far)
    assert (other / other.max() - maps / maps.max()).abs().max() > 0.05
    torch.testing.assert_close(q, p)  # what the classifier says is of the image as it is


def test_the_scale_is_chosen_by_the_image_as_it_is(squeezenet):
    image = torch.rand(48, 48, generator=torch.Generator().manual_seed(1)).numpy()
    area = HeatmapConfig(method="layercam", layer="fused", scales=[0.75, 1.0], choose="area")
    for side in (5, 60):
        plain = area.model_copy(update={"hot_side": side})
        climbing = plain.model_copy(update={"climb": ClimbConfig(steps=2, rate=0.2)})
        a, _ = heatmap(squeezenet, image, LABELS, image_size=48, config=plain)
        b, _ = heatmap(squeezenet, image, LABELS, image_size=48, config=climbing)
        assert a.input_scale == b.input_scale
        assert a.probability == b.probability
        assert abs(a.raw / a.raw.max() - b.raw / b.raw.max()).max() > 0.01


def test_settings_that_make_no_sense_are_refused_and_none_leaves_all_up_to_date():
    assert "climb" not in HeatmapConfig().fingerprint_settings()
    climbing = HeatmapConfig(climb={})
    assert climbing.fingerprint_settings()["climb"] == ClimbConfig().model_dump()
    with pytest.raises(ConfigError, match=r"heatmap\.climb.*occlusion is of none"):
        parse_config({"heatmap": {"method": "occlusion", "climb": {}}})
    with pytest.raises(ConfigError, match=r"heatmap\.climb\.rate"):
        parse_config({"heatmap": {"climb": {"rate": 0}}})
    with pytest.raises(ExportError, match="climbing needs torch"):
        require_formula(climbing)
