"""Masks that mean something else than they seem to: said of those, and never of good ones."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from tests.data.helpers import make_case, noise, save, save_volume, write_rows
from weakseg.config import DataConfig
from weakseg.data.check import Problem, check_manifest
from weakseg.data.images import read_mask
from weakseg.data.soft import has_soft_edges

Y, X = np.mgrid[:96, :128]
SHAPES = {
    "disc": np.hypot(Y - 45, X - 60) < 24,
    "speck": np.hypot(Y - 45, X - 60) < 4,
    "box": (abs(Y - 45) < 18) & (abs(X - 60) < 21),
    "ragged": ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(96, 128)), 4) > 0.05,
    "line": abs(Y - 45 - 10 * np.sin(X / 20)) < 1.2,
}
SHAPE = pytest.mark.parametrize("shape", SHAPES)
GREY = {name: shape * np.uint8(255) for name, shape in SHAPES.items()}
SIZES = [(64, 48), (85, 64), (256, 192), (512, 384)]


def set_of(folder: Path, masks: list[np.ndarray | bytes], **options: object) -> Path:
    """A manifest of noise, a patient an image; with a mask a tumour, then as many without."""
    rows = [["image", "label", "mask", "patient"]]
    for i, mask in enumerate(masks):
        raw = isinstance(mask, bytes)
        name = f"m{i}.png"
        if raw:
            (folder / name).write_bytes(mask)
        else:
            save(folder / name, mask, **options)
        shape = (96, 128) if raw else mask.shape[:2]
        save(folder / f"i{i}.png", noise(i, shape))
        save(folder / f"h{i}.png", noise(100 + i, shape))
        rows += [[f"i{i}.png", "tumor", name, f"p{i}"], [f"h{i}.png", "normal", "", f"q{i}"]]
    return write_rows(folder, rows)


def check(manifest: Path, rule: str | list[int] = "nonzero") -> list[Problem]:
    return check_manifest(manifest, DataConfig(mask_rule=rule))


def kinds(problems: list[Problem]) -> set[str]:
    return {p.kind for p in problems}


@SHAPE
@pytest.mark.parametrize("how", ["BILINEAR", "BICUBIC", "LANCZOS", "HAMMING"])
def test_interpolation_is_seen_at_every_size_and_nearest_never(shape, how):
    image = Image.fromarray(GREY[shape])
    for size in SIZES:
        assert has_soft_edges(np.asarray(image.resize(size, Image.Resampling[how]))), size
        assert not has_soft_edges(np.asarray(image.resize(size, Image.Resampling.NEAREST))), size
    deep = np.asarray(image.resize(SIZES[0], Image.Resampling[how])).astype(np.uint16)
    assert has_soft_edges(deep * 257)
    assert has_soft_edges((deep / 255).astype(np.float32))


@SHAPE
def test_shrinking_by_area_and_blurring_are_seen(shape):
    image = Image.fromarray(GREY[shape])
    by_area = np.asarray(image.resize((64, 48), Image.Resampling.BOX))
    # An upright box has sides of one value and corners of another: as few as classes have.
    assert has_soft_edges(by_area) == (shape != "box")
    for sigma in (0.7, 2, 8):
        blurred = ndimage.gaussian_filter(GREY[shape] * 1.0, sigma)
        assert has_soft_edges(np.rint(blurred).astype(np.uint8)), sigma
        assert has_soft_edges((blurred / 255).astype(np.float32)), sigma


@SHAPE
@pytest.mark.parametrize("quality", [100, 95, 75, 30])
def test_what_jpeg_has_left_is_seen_in_a_png_as_well(shape, quality):
    held = io.BytesIO()
    Image.fromarray(GREY[shape]).save(held, "JPEG", quality=quality)
    assert has_soft_edges(np.asarray(Image.open(held)))


def nested() -> np.ndarray:
    """Classes 1, 2, 3 and 4 inside each other, the outermost as a ring of two pixels."""
    rings = [np.hypot(Y - 45, X - 60) < r for r in (30, 28, 20, 10)]
    return sum(r.astype(np.uint8) for r in rings)


def instances() -> np.ndarray:
    return ndimage.label(SHAPES["ragged"])[0].astype(np.uint8)


def touching() -> np.ndarray:
    values = np.zeros((96, 128), dtype=np.uint8)
    for i, (y, x) in enumerate(np.random.default_rng(1).integers(5, 90, (40, 2))):
        values[np.hypot(Y - y, X - x) < 8] = 5 * i + 5
    return values


def specks() -> np.ndarray:
    values, rng = np.zeros((96, 128), dtype=np.uint8), np.random.default_rng(1)
    values[rng.integers(0, 96, 150), rng.integers(0, 128, 150)] = rng.integers(1, 255, 150)
    return values


def with_border() -> np.ndarray:
    """Class 15 inside, and a border of 255 that means "not judged"."""
    disc = SHAPES["disc"]
    rim = ndimage.binary_dilation(disc, iterations=2) & ~ndimage.binary_erosion(disc, iterations=2)
    return np.where(rim, 255, np.where(disc, 15, 0)).astype(np.uint8)


CLASSES = {
    "nested": nested(),
    "one pixel wide": np.select([Y < 40, Y < 41, Y < 42, Y < 43], [0, 1, 2, 3], 4).astype(np.uint8),
    "nested, spread": nested() * 60,
    "nested, 16 bits": nested().astype(np.uint16) * 16000,
    "tumour parts": np.choose(nested(), [0, 2, 4, 1, 4]).astype(np.uint8),
    "instances": instances(),
    "touching": touching(),
    "specks": specks(),
    "with a border": with_border(),
    "spread, a pixel wide": np.select([Y < 40, Y < 41, Y < 42], [0, 85, 170], 255).astype(np.uint8),
    "1 and 2": np.where(SHAPES["disc"], 2, 1).astype(np.uint8),
    "254 and 255": np.where(SHAPES["disc"], 255, 254).astype(np.uint8),
    "0 and 1": SHAPES["ragged"].astype(np.uint8),
    "constant": np.zeros((9, 9), np.uint8),
    "floats": nested() / np.float32(4),
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes_are_no_soft_edges(name):
    assert not has_soft_edges(CLASSES[name])
    assert not has_soft_edges(CLASSES[name].repeat(3, axis=0).repeat(3, axis=1))


def test_one_stray_pixel_is_no_soft_edge():
    mask = GREY["disc"].copy()
    mask[2, 3] = 9
    assert not has_soft_edges(mask)


def test_soft_edges_of_layers_and_colours_are_seen(tmp_path):
    grey = np.asarray(Image.fromarray(GREY["disc"]).resize((256, 192), Image.Resampling.BICUBIC))
    layer = np.dstack([*3 * [np.full_like(grey, 200)], grey])
    red = np.dstack([grey, np.zeros_like(grey), np.zeros_like(grey)])
    manifest = set_of(tmp_path, [layer, red, grey])
    found = [p for p in check(manifest) if p.kind == "mask-soft"]
    assert [p.file for p in found] == ["m0.png", "m1.png", "m2.png"]
    smooth = read_mask(tmp_path / "m2.png", "half")
    for name in ("m0.png", "m1.png"):
        np.testing.assert_array_equal(read_mask(tmp_path / name, "half"), smooth)


def test_where_half_marks_nothing_it_is_not_proposed(tmp_path):
    faint = np.asarray(Image.fromarray(GREY["disc"] // 3).resize((256, 192)))
    (found,) = [p for p in check(set_of(tmp_path, [faint] * 3)) if p.file == "m0.png"]
    assert (found.kind, found.severity) == ("mask-soft", "warning")
    assert "half" not in found.fix
    assert "from its source" in found.fix


def test_soft_and_dark_on_white_has_one_way(tmp_path):
    dark = 255 - np.asarray(Image.fromarray(GREY["disc"]).resize((256, 192)))
    problems = check(set_of(tmp_path, [dark] * 3))
    assert kinds(problems) == {"mask-soft", "masks-inverted"}
    assert all("mask_rule: dark" in p.fix for p in problems)
    assert check(tmp_path / "labels.csv", "dark") == []


@pytest.mark.parametrize("name", ["03_jpeg_mask", "48_resized_masks"])
def test_the_lossy_cases_are_said_and_half_mends_them(shared, tmp_path, name):
    manifest = make_case(shared, name, tmp_path)
    problems = check(manifest)
    assert [p.row for p in problems if p.kind == "mask-soft"] == list(range(2, 26, 2))
    assert {p.fix for p in problems} == {"set data.mask_rule: half"}
    assert ("JPEG" in problems[0].message) == (name == "03_jpeg_mask")
    assert check(manifest, "half") == []
    suffix = "jpg" if name == "03_jpeg_mask" else "png"
    for i in range(0, 24, 2):
        disc = drawn_disc(i)
        mask = read_mask(tmp_path / f"msk/s{i:02d}.{suffix}", "half")
        if name == "48_resized_masks":  # every second pixel was enlarged
            disc = disc[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
        assert dice(mask, disc) >= 0.99


def drawn_disc(i: int) -> np.ndarray:
    """The disc of image i as the cases' shared script draws it."""
    rng, (y, x) = np.random.default_rng(i), np.mgrid[:64, :80]
    rng.uniform(0, 6, 4)
    rng.normal(0, 6, (64, 80))
    centre_y, centre_x = rng.uniform(0.3, 0.7) * 64, rng.uniform(0.3, 0.7) * 80
    return (y - centre_y) ** 2 + (x - centre_x) ** 2 < (rng.uniform(0.12, 0.18) * 64) ** 2


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def colour(ground: tuple[int, ...], paint: tuple[int, ...]) -> np.ndarray:
    return np.where(SHAPES["disc"][..., None], np.uint8(paint), np.uint8(ground))


INVERTED: dict[str, tuple[np.ndarray, str | list[int], str]] = {
    "dark on white": (255 - GREY["disc"], "nonzero", "dark"),
    "dark on white, read by half": (255 - GREY["disc"], "half", "dark"),
    "0 on 1": (1 - SHAPES["disc"].astype(np.uint8), "nonzero", ""),
    "red on white": (colour((255,) * 3, (200, 0, 0)), "nonzero", "dark"),
    "green on white": (colour((255,) * 3, (0, 90, 0)), "nonzero", "dark"),
    "values 1 and 2": (CLASSES["1 and 2"], "nonzero", "[2]"),
    "values 254 and 255": (CLASSES["254 and 255"], "nonzero", "[255]"),
    "wrongly called dark": (GREY["disc"], "dark", "nonzero"),
}


@pytest.mark.parametrize("name", INVERTED)
def test_masks_the_other_way_round_are_said_once_with_a_way_that_works(tmp_path, name):
    mask, rule, way = INVERTED[name]
    manifest = set_of(tmp_path, [mask, mask, mask, GREY["speck"]])
    problems = check(manifest, rule)
    inverted = [p for p in problems if p.kind == "masks-inverted"]
    assert len(inverted) == 1, problems
    assert (inverted[0].row, inverted[0].file, inverted[0].severity) == (2, "m0.png", "warning")
    whole = name.startswith(("red", "green", "values"))
    expected = 100 if whole else 100 * (1 - SHAPES["disc"].mean())
    assert f"{4 if rule == 'dark' else 3} of 4 masks" in inverted[0].message
    assert f"as this one ({expected:.0f} % of the image)" in inverted[0].message
    assert "--pictures" in inverted[0].fix
    assert "mask-full" not in kinds(problems)
    if not way:
        assert "the other way round" in inverted[0].fix
        return
    assert inverted[0].fix.endswith(f"set data.mask_rule: {way}")
    np.testing.assert_array_equal(read_mask(tmp_path / "m0.png", json_rule(way)), SHAPES["disc"])


def json_rule(text: str) -> str | list[int]:
    return json.loads(text) if text.startswith("[") else text


def test_masks_that_touch_every_border_are_said_though_they_are_small(tmp_path):
    cross = ((abs(Y - 48) < 4) | (abs(X - 64) < 4)) * np.uint8(255)
    (problem,) = check(set_of(tmp_path, [cross, cross, cross]))
    assert problem.kind == "masks-inverted"
    assert "3 of 3 masks" in problem.message
    three_sides = cross.copy()
    three_sides[0] = 0
    assert check(set_of(tmp_path, [three_sides] * 3)) == []


def test_one_inverted_mask_among_good_ones_is_named_by_its_row(tmp_path):
    masks = [GREY["disc"], 255 - GREY["disc"], GREY["disc"], GREY["box"]]
    (problem,) = check(set_of(tmp_path, masks))
    assert (problem.kind, problem.row, problem.file) == ("mask-full", 4, "m1.png")
    assert (problem.severity, "border" in problem.message) == ("warning", True)
    # A large lesion that leaves some of the border is none.
    large = np.full((96, 128), 255, np.uint8)
    large[:, :20] = 0
    assert check(set_of(tmp_path, [GREY["disc"], large, GREY["disc"]])) == []


def test_healthy_images_whose_masks_are_all_white_are_told_the_way(tmp_path):
    manifest = set_of(tmp_path, [255 - GREY["disc"]] * 3)
    white = save(tmp_path / "white.png", np.full((96, 128), 255, np.uint8))
    lines = manifest.read_text().replace("normal,,", f"normal,{white.name},")
    manifest.write_text(lines)
    problems = check(manifest)
    assert {p.kind for p in problems} == {"masks-inverted", "healthy-with-mask"}
    assert all("dark" in p.fix for p in problems)
    assert check(manifest, "dark") == []


@pytest.mark.parametrize("tag", range(2, 9))
@pytest.mark.parametrize("where", ["image", "mask"])
def test_unlike_orientation_is_counted_once(tmp_path, tag, where):
    square = GREY["disc"][:96, :96]
    manifest = set_of(tmp_path, [square] * 4)
    exif = Image.Exif()
    exif[274] = tag
    for i in range(3):
        name = f"i{i}.png" if where == "image" else f"m{i}.png"
        with Image.open(tmp_path / name) as image:
            image.load()
        image.save(tmp_path / name, exif=exif)
    (problem,) = check(manifest)
    assert (problem.kind, problem.row, problem.severity) == ("orientation-differs", 2, "warning")
    assert "3 of 4 masks" in problem.message
    image_tag, mask_tag = (tag, "none") if where == "image" else ("none", tag)
    assert f"the image has {image_tag}, the mask {mask_tag})" in problem.message
    assert "as they are stored" in problem.fix


def test_the_same_orientation_of_both_is_well_in_any_format(tmp_path):
    manifest = set_of(tmp_path, [GREY["disc"]] * 3)
    exif = Image.Exif()
    exif[274] = 6
    for name in ("i0.png", "m0.png"):
        with Image.open(tmp_path / name) as image:
            image.load()
        image.save(tmp_path / name, exif=exif)
    for name in ("i1.png", "m1.png"):  # the content counts, not the name
        array = np.asarray(Image.open(tmp_path / name))
        tifffile.imwrite(tmp_path / name, array, extratags=[(274, "H", 1, 6, True)])
    assert check(manifest) == []
    exif[274] = 8
    with Image.open(tmp_path / "m0.png") as image:
        image.load()
    image.save(tmp_path / "m0.png", exif=exif)
    assert "the image has 6, the mask 8)" in check(manifest)[0].message


def test_the_orientation_case_is_said_and_counted(shared, tmp_path):
    (problem,) = check(make_case(shared, "04_exif180_square", tmp_path))
    assert problem.kind == "orientation-differs"
    assert "12 of 12 masks" in problem.message


@pytest.mark.parametrize("name", ["01_palette_reversed", "05b_rgba_mask_red_layer"])
def test_cases_that_are_read_by_colour_have_no_problem(shared, tmp_path, name):
    assert check(make_case(shared, name, tmp_path)) == []


def test_several_files_of_one_mask_are_looked_at_each_and_judged_together(tmp_path):
    manifest = set_of(tmp_path, [GREY["disc"]] * 3)
    soft = np.asarray(Image.fromarray(GREY["speck"]).resize((64, 48)).resize((128, 96)))
    save(tmp_path / "soft.png", soft)
    exif = Image.Exif()
    exif[274] = 3
    save(tmp_path / "turned.png", GREY["speck"], exif=exif)
    save(tmp_path / "white.png", 255 - GREY["disc"])
    text = manifest.read_text()
    manifest.write_text(text.replace("m0.png", "m0.png;soft.png").replace("m1", "turned.png;m1"))
    blurred, turned = check(manifest)
    assert (blurred.kind, blurred.file) == ("mask-soft", "soft.png")
    assert (turned.row, turned.file) == (4, "turned.png;m1.png")
    assert "the image has none, the mask 3), 1 of 3 masks" in turned.message
    manifest.write_text(text.replace("m1.png", "m1.png;white.png"))
    assert [(p.kind, p.row) for p in check(manifest)] == [("mask-full", 4)]


@pytest.mark.parametrize("factor", [(2, 2, 2), (1, 1, 2), (0.5, 0.5, 1)])
def test_interpolated_volumes_are_seen_and_classes_in_three_dimensions_are_not(factor):
    z, y, x = np.mgrid[:20, :30, :30]
    distance = np.hypot(np.hypot(z - 9, y - 14), x - 15)
    ball = (distance < 7) * np.float32(255)
    smooth = np.clip(ndimage.zoom(ball, factor, order=1), 0, 255)
    assert has_soft_edges(np.rint(smooth).astype(np.uint8))
    assert has_soft_edges(smooth / 255)
    classes = sum((distance < r).astype(np.uint8) for r in (9, 7, 3)) * 80
    assert not has_soft_edges(ndimage.zoom(classes, factor, order=0))


def test_half_of_a_set_is_not_most_of_it(tmp_path):
    dark = 255 - GREY["disc"]
    half = check(set_of(tmp_path, [dark, GREY["disc"], dark, GREY["box"]]))
    assert [(p.kind, p.row) for p in half] == [("mask-full", 2), ("mask-full", 6)]
    empty = np.zeros_like(dark)
    most = check(set_of(tmp_path, [dark, GREY["disc"], dark, empty]))
    assert kinds(most) == {"lesion-without-mask", "masks-inverted"}
    assert any("2 of 3 masks" in p.message for p in most)


@pytest.mark.parametrize("what", ["image", "volume", "slices"])
def test_a_mask_of_another_size_is_told_once_as_that(tmp_path, what):
    """Resizing made its edges soft: a mask on the image's own grid has none."""
    soft = np.asarray(Image.fromarray(GREY["disc"]).resize((48, 36), Image.Resampling.BILINEAR))
    own = np.asarray(Image.fromarray(GREY["disc"]).resize((64, 48), Image.Resampling.BILINEAR))
    head, rows = ["image", "label", "mask", "patient"], []
    for k, mask in enumerate((soft, own)):
        if what == "image":
            image = save(tmp_path / f"i{k}.png", noise(k, (48, 64)))
            path = save(tmp_path / f"m{k}.png", mask)
        else:
            values = np.stack([noise(9 * k + z, (48, 64)) for z in range(8)], axis=2)
            image = save_volume(tmp_path / f"i{k}.nii.gz", values)
            path = save_volume(tmp_path / f"m{k}.nii.gz", np.stack([mask] * 8, axis=2))
        rows.append([str(image), "tumor", str(path), f"p{k}"])
    if what == "slices":
        head, rows = [*head, "slice"], [[*r, z] for r in rows for z in range(8)]
    found = [p for p in check(write_rows(tmp_path, [head, *rows])) if p.kind.startswith("mask")]
    told = [(p.kind, p.file) for p in found]
    assert told == [("mask-size", rows[0][2]), ("mask-soft", rows[-1][2])]


def test_exactly_half_of_an_image_is_no_background(tmp_path):
    half = np.zeros((96, 128), dtype=np.uint8)
    half[:48] = 255
    assert check(set_of(tmp_path, [half] * 3)) == []
    half[48, 0] = 255
    assert kinds(check(set_of(tmp_path, [half] * 3))) == {"masks-inverted"}


def test_a_list_of_values_loses_the_edges_of_a_lossy_mask(tmp_path):
    soft = np.asarray(Image.fromarray(GREY["disc"]).resize((256, 192), Image.Resampling.BILINEAR))
    found = check(set_of(tmp_path, [soft] * 3), [255])
    assert [p.kind for p in found] == ["mask-soft"] * 3
    counts = f"({(soft == 255).sum()} pixels, and {(soft > 127).sum()} above half of the range)"
    assert f"only the listed values count as lesion {counts}" in found[0].message
    assert found[0].fix == "set data.mask_rule: half"
