"""GIF files of one frame: by Pillow and by hand; stacks, damaged ones, and a whole job on them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.formats.broken_images import sparse
from tests.data.helpers import image_size, noise, write_rows
from tests.tiny import read_rows, weakseg, write_config, write_manifest, write_set
from tests.work import calls_at_most
from weakseg.data.formats.reading import decode
from weakseg.data.images import mask_values, read_image, read_mask
from weakseg.errors import DataError

RAINBOW = [(0, 0, 0), (200, 10, 20), (30, 220, 40), (50, 60, 240)]


def keep(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def pillow_gif(image: Image.Image, **options: object) -> bytes:
    f = io.BytesIO()
    image.save(f, format="GIF", **options)
    return f.getvalue()


def packed(codes: list[int], width: int = 3) -> bytes:
    """Codes of one width, the lowest bits first."""
    number = sum(code << (width * k) for k, code in enumerate(codes))
    return number.to_bytes(-(-len(codes) * width // 8), "little")


# Of a palette of four colours: codes of 3 bits, 4 clears the table, 5 ends. Cleared before each
# pair, the table never asks for a fourth bit.
HAND = [4, 0, 1, 4, 2, 3, 4, 3, 2, 4, 1, 0, 5]
INDICES = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint8)


def gif(
    codes: bytes,
    size: tuple[int, int] = (2, 4),
    frame: tuple[int, int] | None = None,
    *,
    flags: int = 0,
    palette: bool = True,
    least: int = 2,
    before: bytes = b"",
    end: bytes = b";",
) -> bytes:
    height, width = frame or size
    head = b"GIF89a" + struct.pack("<HHBBB", size[1], size[0], 0x81 if palette else 1, 0, 0)
    table = bytes(v for c in RAINBOW for v in c) if palette else b""
    image = b"," + struct.pack("<HHHHB", 0, 0, width, height, flags) + bytes([least])
    return head + table + before + image + bytes([len(codes)]) + codes + b"\0" + end


def test_codes_by_hand(tmp_path):
    path = keep(tmp_path / "a.gif", gif(packed(HAND)))
    np.testing.assert_array_equal(decode(path).values, INDICES)
    np.testing.assert_array_equal(read_image(path), np.array(RAINBOW, np.uint8)[INDICES])
    assert image_size(path) == (2, 4)
    np.testing.assert_array_equal(mask_values(path), [0, 1, 2, 3])
    np.testing.assert_array_equal(read_mask(path, [1, 3]), INDICES % 2 == 1)
    np.testing.assert_array_equal(read_mask(path, "nonzero"), INDICES > 0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("shape", [(1, 9), (3, 5), (64, 97), (300, 200)])
def test_what_pillow_writes_comes_back(tmp_path, mode, interlaced, shape):
    """Noise fills the table of codes many times over."""
    array = noise(1, (*shape, 3)) if mode in ("P", "RGB") else noise(1, shape)
    data = pillow_gif(Image.fromarray(array).convert(mode), interlace=interlaced)
    path = keep(tmp_path / "a.gif", data)
    expected = np.asarray(Image.open(path).convert("RGB"))
    image = read_image(path)
    np.testing.assert_array_equal(image if image.ndim == 3 else np.dstack([image] * 3), expected)
    assert image_size(path) == shape
    if mode == "L":
        np.testing.assert_array_equal(image, array)


@pytest.mark.parametrize("kind", ["plain", "waves", "steps"])
def test_images_that_repeat_themselves_come_back(tmp_path, kind):
    """Long entries, and codes that name the entry that they complete."""
    y, x = np.mgrid[:200, :300]
    array = {"plain": y * 0, "waves": 99 + 99 * np.sin(x / 9 + y), "steps": x // 50}[kind]
    array = array.astype(np.uint8)
    path = keep(tmp_path / "a.gif", pillow_gif(Image.fromarray(array)))
    np.testing.assert_array_equal(read_image(path), array)


def test_the_transparent_index_is_hidden(tmp_path):
    before = b"!\xf9\x04\x01\0\0\x02\0"  # index 2
    path = keep(tmp_path / "a.gif", gif(packed(HAND), before=before))
    colours = np.array(RAINBOW, np.uint8)
    colours[2] = 0
    np.testing.assert_array_equal(read_image(path), colours[INDICES])
    np.testing.assert_array_equal(decode(path).alpha, np.where(INDICES == 2, 0, 255))
    rgba = np.asarray(Image.open(path).convert("RGBA"))
    np.testing.assert_array_equal(rgba[..., 3], decode(path).alpha)


@pytest.mark.parametrize("white_first", [False, True])
def test_a_mask_is_read_by_its_colours(tmp_path, white_first):
    lesion = noise(4, (9, 11)) > 128
    image = Image.fromarray((lesion != white_first).astype(np.uint8), mode="P")
    image.putpalette([255] * 3 + [0] * 3 if white_first else [0] * 3 + [255] * 3)
    path = keep(tmp_path / "a.gif", pillow_gif(image, optimize=False))
    np.testing.assert_array_equal(read_mask(path), lesion)


def test_an_animation_is_a_stack(tmp_path):
    frames = [Image.fromarray(noise(k)) for k in range(3)]
    path = keep(tmp_path / "a.gif", pillow_gif(frames[0], save_all=True, append_images=frames[1:]))
    for read in (read_image, image_size):
        with pytest.raises(DataError, match="stack of several images") as e:
            read(path)
        assert e.value.found == "3 frames"
        assert "one file a slice" in str(e.value.fix)
    one = pillow_gif(frames[0], save_all=True)
    np.testing.assert_array_equal(read_image(keep(path, one)), noise(0))


GOOD = gif(packed(HAND))
DAMAGED = {
    "header cut": (GOOD[:9], "header is cut off"),
    "palette cut": (GOOD[:20], "palette is cut off"),
    "description cut": (GOOD[:30], "is cut off"),
    "codes cut": (GOOD[:-4], "is cut off"),
    "no end": (gif(packed(HAND), end=b""), "no end"),
    "no image": (GOOD[:25] + b";", "no image"),
    "no palette": (gif(packed(HAND), palette=False), "no palette"),
    "unknown block": (gif(packed(HAND), before=b"\x99"), "unknown kind 153"),
    "too few pixels": (gif(packed([*HAND[:-2], 5])), "do not fill the image: 7 of 8"),
    "no end of codes": (gif(packed(HAND[:8])), "do not fill the image: 5 of 8"),
    "too many pixels": (gif(packed([*HAND[:-1], 4, 1, 5])), "more pixels than"),
    "code of nothing": (gif(packed([4, 7, 5])), "stands for nothing"),
    "code ahead of its time": (gif(packed([4, 0, 7, 5])), "stands for nothing"),
    "codes of 9 bits": (gif(packed(HAND), least=9), "begin with 9 bits"),
    "small frame": (gif(packed(HAND), (4, 4), (2, 4)), "frame of 2 × 4 does not fill"),
    "no size": (gif(packed(HAND), (0, 4)), "0 × 4 pixels"),
    "too large": (gif(packed(HAND), (60_000, 60_000)), "too large"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_named(tmp_path, kind):
    data, told = DAMAGED[kind]
    path = keep(tmp_path / "a.gif", data)
    with pytest.raises(DataError) as e:
        read_image(path)
    assert told in f"{e.value.what} {e.value.found}"
    assert e.value.where == str(path)
    assert e.value.fix


def test_every_cut_of_a_file_is_damage(tmp_path):
    whole = pillow_gif(Image.fromarray(noise(3, (9, 7))))
    for k in range(1, len(whole)):
        with pytest.raises(DataError):
            read_image(keep(tmp_path / "a.gif", whole[:k]))


def test_large_files_and_bombs_end_soon(tmp_path):
    path = sparse(tmp_path / "a.gif", GOOD, 2**30)
    for read in (decode, image_size):
        with pytest.raises(DataError, match="the file has 1074 MB, and the limit is 336 MB"):
            read(path)
    bomb = pillow_gif(Image.new("L", (9000, 9000)))
    patched = bomb[:6] + struct.pack("<HH", 10, 10) + bomb[10:]
    at = patched.index(b",\0\0\0\0") + 5
    keep(path, patched[:at] + struct.pack("<HH", 10, 10) + patched[at + 4 :])
    with pytest.raises(DataError) as e, calls_at_most(10**4):
        decode(path)
    assert "more pixels than its header says" in str(e.value.found)


def test_validate_takes_gif_and_names_what_is_damaged(tmp_path, capsys):
    rows = [["image", "label", "mask", "patient"]]
    for k in range(8):
        mask = np.zeros((16, 20), np.uint8)
        mask[4:8, 5:10] = 255 * (k % 2)
        Image.fromarray(noise(k)).save(tmp_path / f"i{k}.gif")
        Image.fromarray(mask).save(tmp_path / f"m{k}.gif")
        rows.append([f"i{k}.gif", ("normal", "tumor")[k % 2], f"m{k}.gif", f"p{k // 2}"])
    manifest = write_rows(tmp_path, rows)
    assert weakseg("validate", manifest) == 0
    whole = (tmp_path / "i3.gif").read_bytes()
    (tmp_path / "i3.gif").write_bytes(whole[:-9])
    capsys.readouterr()
    assert weakseg("validate", manifest) == 2
    told = capsys.readouterr().out
    assert "image-unreadable: 1 error" in told
    assert "i3.gif" in told


JOB = """
name: tiny
data: {{manifest: {manifest}, image_size: 32}}
classifier: {{arch: squeezenet1_1, epochs: 1, batch_size: 8, seeds: [0], weights: none}}
heatmap: {{method: gradcam, layer: features.7}}
masks: {{rules: [{{rule: otsu}}]}}
"""


@pytest.mark.thorough
def test_training_on_bmp_and_gif_is_that_on_png_to_the_digit(tmp_path):
    data = tmp_path / "data"
    rows = read_rows(write_set(data, patients=6, slices=1))
    others = []
    for k, row in enumerate(rows):
        cells = dict(row)
        for column in ("image", "mask"):
            cells[column] = str(Path(row[column]).with_suffix((".bmp", ".gif")[k % 2]))
            Image.open(data / row[column]).save(data / cells[column])
        others.append(list(cells.values()))
    tables = []
    for name, manifest in (
        ("png", data / "labels.csv"),
        ("others", write_manifest(data / "others.csv", others)),
    ):
        (tmp_path / name).mkdir()
        config = write_config(tmp_path / name, manifest, JOB)
        run = tmp_path / name / "run"
        assert weakseg("train-classifier", config, "--run-dir", run, "--device", "cpu") == 0
        tables.append(read_rows(run / "classifier/squeezenet1_1/seed-0/predictions.csv"))
    assert tables[0] == tables[1]
    assert len(tables[0]) == len(rows)
