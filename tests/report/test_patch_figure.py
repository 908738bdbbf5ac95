"""The page on patches: its figure and its table are what the networks say."""

import re
from pathlib import Path

import matplotlib
import pytest
import torch

from weakseg.models.deepmedic import DeepMedic
from weakseg.models.segmenters import SEGMENTERS, build_segmenter
from weakseg.models.table import models_table
from weakseg.models.unet import UNet
from weakseg.report.patch_figure import (
    output_per_input,
    patch_figure,
    patch_geometry,
    seen_by,
    standalone,
)

DOCS = Path(__file__).parents[2] / "docs"


def test_patch_of_the_original_unet():
    g = patch_geometry("unet-original")
    assert (g.window, g.output, g.before) == (572, 388, 92)
    assert g.corner[0] == 0  # its first voxel needs the window's first, and no padding
    assert g.corner[1] - g.corner[0] + 1 <= g.field
    assert g.middle[0] > 0
    assert g.middle[1] < 571


def test_patch_of_deepmedic():
    g = patch_geometry("deepmedic")
    assert (g.window, g.output, g.before, g.field) == (57, 9, 23, 51)
    # The first voxel of a block of three: the low-resolution field is centred on the second.
    assert g.corner == (24 - 24, 24 + 24)
    assert g.middle == (23 + 4 - 24, 23 + 4 + 24)


def test_corner_voxels_of_same_convolutions_see_padding():
    g = patch_geometry("unet")
    assert (g.window, g.output, g.before) == (128, 128, 0)
    assert g.corner[0] < -90
    assert 0 < g.corner[1] < 128
    # The same field as the valid network's, which has the same layers.
    valid = patch_geometry("unet-original")
    assert g.corner[1] - g.corner[0] == valid.corner[1] - valid.corner[0]


@pytest.mark.parametrize(
    ("build", "output"),
    [(lambda: UNet(1, 2, depth=2, base=4), 12), (lambda: DeepMedic(1, 2), 5)],
    ids=["unet", "deepmedic"],
)
def test_a_valid_voxel_sees_these_voxels_and_no_others(build, output):
    """Noise outside of the field changes nothing; every part of its ends does."""
    torch.manual_seed(0)  # of other weights a ReLU may be dead for all of the window
    net = build()
    fields = seen_by(net, output, (0, output - 1))
    net = net.eval().double()
    torch.manual_seed(0)
    side = net.input_size(output)
    x = torch.randn(1, 1, side, net.input_size(1), dtype=torch.float64)
    for voxel, (first, last) in zip((0, output - 1), fields, strict=True):
        with torch.no_grad():
            before = net(x)[0, :, voxel]
            outside = x.clone()
            outside[:, :, :first] += 3
            outside[:, :, last + 1 :] -= 3
            assert torch.allclose(net(outside)[0, :, voxel], before, atol=1e-12)
            for end in (first, last):
                inside = x.clone()
                inside[:, :, end] += 100
                assert not torch.allclose(net(inside)[0, :, voxel], before, atol=1e-12)


def test_shares_rise_with_the_patch():
    with torch.device("meta"):
        sides, shares = output_per_input(build_segmenter("deepmedic", 1, 2), 100)
        assert sides[0] == 49
        assert shares[sides.index(57)] == (9 / 57) ** 2
        assert all(a < b for a, b in zip(shares, shares[1:], strict=False))
        assert set(output_per_input(build_segmenter("unet", 1, 2), 100)[1]) == {1.0}


@pytest.mark.thorough
def test_figure_of_the_page_is_what_is_drawn_now():
    drawn, held = standalone(patch_figure()), (DOCS / "patches.svg").read_text()

    def words(svg):
        return re.findall(r"<text[^>]*>([^<]*)</text>", svg)

    assert len(words(drawn)) > 20
    assert words(drawn) == words(held)
    (version,) = re.findall(r'data-drawn-by="matplotlib ([^"]+)"', held)
    if version == matplotlib.__version__:
        assert drawn == held, "python -m weakseg.report.patch_figure docs/patches.svg"
    assert "currentColor" in held
    assert re.search(r'<svg [^>]*xmlns="http://www.w3.org/2000/svg"[^>]* color="#', held)


def test_table_of_the_page_is_what_weakseg_models_says(monkeypatch):
    lines = re.findall(
        r"^\| `([\w-]+)` \| (\d) \| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) \|$",
        (DOCS / "patches.md").read_text(),
        flags=re.M,
    )
    assert len(lines) == 7
    # No other network is built: that takes seconds.
    named = {name: SEGMENTERS[name] for name, *_ in lines}
    monkeypatch.setattr("weakseg.models.table.SEGMENTERS", named)
    monkeypatch.setattr("weakseg.models.table.ARCHITECTURES", {})
    rows = {(r["name"], r["dims"]): r for r in models_table()}
    for name, dims, field, window, output, share in lines:
        row = rows[name, int(dims)]
        assert set(row["receptive_field"]) == {int(field)}
        assert (row["patch_input"], row["patch_output"]) == (int(window), int(output))
        exact = (row["patch_output"] / row["patch_input"]) ** int(dims)
        assert float(share) == pytest.approx(exact, rel=0.02)
        assert int(output) == SEGMENTERS[name].patch[int(dims)]


def test_settings_of_the_page_are_a_configuration():
    import yaml

    from weakseg.config import SegmenterConfig
    from weakseg.training.recipes import resolve

    (block,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "patches.md").read_text(), flags=re.S)
    config = SegmenterConfig.model_validate(yaml.safe_load(block)["segmenters"]["medic"])
    assert resolve(config, 3).sampler == "balanced"
