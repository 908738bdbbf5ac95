"""The sheet of images with their masks' outlines: which, where, and what stands below."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.helpers import noise, save, save_volume, write_rows
from tests.tiny import weakseg
from weakseg.config import DataConfig
from weakseg.data.cases import Labels
from weakseg.data.manifest import Problem
from weakseg.data.table import Row, Table, read_table
from weakseg.report import sheet as module
from weakseg.report.pictures import TRUTH_COLOUR
from weakseg.report.sheet import COLUMNS, HEALTHY, SHOWN, SIDE, choose_rows, write_sheet

LABELS = Labels(("normal",), ("tumor",))
BLUE = np.array([int(TRUTH_COLOUR[i : i + 2], 16) for i in (1, 3, 5)])


def row(line: int, label: str = "tumor", mask: str = "m.png") -> Row:
    return Row(line, f"{line}.png", label, mask, "", "", 3, 3)


def table_of(*rows: Row) -> Table:
    return Table(Path("labels.csv"), rows)


def lines(table: Table, problems: list[Problem] | None = None) -> list[int]:
    return [r.line for r in choose_rows(table, problems or [], LABELS)]


def told(line: int, kind: str = "mask-soft") -> Problem:
    return Problem(kind, line, "m.png", "", "", "warning")


def test_lesions_fill_the_sheet_but_for_a_few_healthy_images():
    rows = [row(i, "tumor" if i <= 201 else "normal") for i in range(2, 402)]
    shown = lines(table_of(*rows))
    assert len(shown) == SHOWN == len(set(shown))
    assert shown == sorted(shown)
    assert sum(i > 201 for i in shown) == HEALTHY
    # The whole range is looked at, in steps of one length, from the middle of the first.
    assert shown[0] == 7
    assert {b - a for a, b in pairwise(i for i in shown if i <= 201)} == {11, 12}
    assert {b - a for a, b in pairwise(i for i in shown if i > 201)} == {33, 34}
    gaps = np.diff([i for i in shown if i <= 201])
    assert gaps.max() - gaps.min() <= 1


def test_small_sets_are_shown_whole_and_either_kind_fills_what_the_other_leaves():
    few = table_of(*(row(i, "tumor" if i % 2 else "normal") for i in range(2, 14)))
    assert lines(few) == list(range(2, 14))
    mostly = [row(i, mask="") for i in range(2, 100)] + [row(i) for i in range(100, 103)]
    shown = lines(table_of(*mostly))
    assert len(shown) == SHOWN
    assert {100, 101, 102} <= set(shown)
    assert len(lines(table_of(*(row(i) for i in range(2, 100))))) == SHOWN
    assert lines(table_of(Row(2, "", "tumor", "m.png", "", "", 3, 3))) == []


def test_masks_of_which_something_is_told_come_first_but_not_alone():
    rows = [row(i) for i in range(2, 402)]
    bad = [37, 205, 300]
    problems = [told(37), told(205, "orientation-differs"), told(300, "masks-inverted")]
    shown = lines(table_of(*rows), [*problems, told(333, "image-constant")])
    assert set(bad) <= set(shown)
    assert 333 not in shown
    assert len(shown) == SHOWN
    all_bad = lines(table_of(*rows), [told(i) for i in range(2, 302)])
    assert sum(i >= 302 for i in all_bad) > 0
    healthy = [row(i, "normal") for i in range(402, 502)]
    assert 450 in lines(table_of(*rows, *healthy), [told(450, "healthy-with-mask")])


@pytest.fixture
def folder(tmp_path) -> Path:
    """Eight images: a lesion by turns; row 2 has its mask in the upper left quarter."""
    rows = [["image", "label", "mask", "patient"]]
    for i in range(8):
        mask = np.zeros((30, 40), dtype=np.uint8)
        mask[5 : 12 + i, 5 : 15 + i] = 255
        save(tmp_path / f"i{i}.png", noise(i, (30, 40)) // 3)
        save(tmp_path / f"m{i}.png", mask)
        ill = i % 2 == 0
        rows.append([f"i{i}.png", "tumor" if ill else "normal", f"m{i}.png" if ill else "", f"{i}"])
    write_rows(tmp_path, rows)
    return tmp_path


def drawn(path: Path) -> np.ndarray:
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        return np.asarray(sheet.convert("RGB")).astype(int)


def blue(picture: np.ndarray) -> np.ndarray:
    return np.abs(picture - BLUE).max(axis=-1) < 40


def tile(sheet: np.ndarray, i: int) -> np.ndarray:
    """The square of picture i; its place by the sheet's own measures."""
    step_x, step_y = SIDE + module._GAP, SIDE + 3 * module._LINE + module._GAP
    x = module._GAP + i % COLUMNS * step_x
    y = 2 * module._LINE + module._GAP + module._GAP // 2 + i // COLUMNS * step_y
    return sheet[y : y + SIDE, x : x + SIDE]


def test_outlines_lie_where_the_masks_are(folder):
    table = read_table(folder / "labels.csv")
    assert write_sheet(folder / "s" / "a.png", table, DataConfig(), [], LABELS) == 8
    sheet = drawn(folder / "s" / "a.png")
    assert sheet.shape[0] < 3 * (SIDE + 80)
    for i in range(8):
        outline = blue(tile(sheet, i))
        assert outline.any() == (i % 2 == 0), i
        if i % 2:
            continue
        # 40 × 30 pixels become 240 × 180, in the middle of a square.
        y, x = np.nonzero(outline)
        assert abs(x.min() - 5 * 6) <= 3
        assert abs(x.max() - (15 + i) * 6) <= 3
        assert abs(y.min() - (30 + 5 * 6)) <= 3
        assert abs(y.max() - (30 + (12 + i) * 6)) <= 3


def test_what_cannot_be_shown_leaves_the_others_alone(folder):
    (folder / "i0.png").write_bytes(b"no image")
    save(folder / "m2.png", np.full((9, 9), 255, dtype=np.uint8))
    (folder / "m4.png").unlink()
    table = read_table(folder / "labels.csv")
    assert write_sheet(folder / "a.png", table, DataConfig(), [], LABELS) == 8
    sheet = drawn(folder / "a.png")
    assert not blue(tile(sheet, 0)).any()
    assert not blue(tile(sheet, 2)).any()
    assert tile(sheet, 2)[40:200].std() > 5  # the image is there
    assert not blue(tile(sheet, 4)).any()
    assert blue(tile(sheet, 6)).any()


def test_captions_name_row_file_label_share_and_trouble(folder, monkeypatch):
    written: list[str] = []
    draw = module._line

    def note(canvas, place, text, *rest):
        written.append(text)
        draw(canvas, place, text, *rest)

    monkeypatch.setattr(module, "_line", note)
    text = (folder / "labels.csv").read_text()
    text = text.replace("tumor,m6", "tu\u202emor\x07 Größe 肿瘤,m6").replace("i1.png", "i\t1.png")
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    table = read_table(folder / "labels.csv")
    write_sheet(folder / "a.png", table, DataConfig(), [told(4), told(4, "mask-full")], LABELS)
    joined = "\n".join(written)
    assert "2: i0.png\ntumor · 5.83 % marked" in joined
    assert "4: i2.png\ntumor · 9 % marked\nmask-soft, mask-full" in joined
    assert "3: i?1.png" in joined
    assert "tu?mor? Größe 肿瘤 · " in joined
    assert "normal · no mask" in joined


def test_long_names_lose_their_folders_and_then_their_middle():
    canvas = module.ImageDraw.Draw(Image.new("RGB", (400, 40)))
    font = module._font()
    assert canvas.textlength("12: a.png", font=font) < SIDE
    shown: list[str] = []

    class Canvas:
        textlength = canvas.textlength

        def text(self, place, text, **_):
            shown.append(text)

    module._line(Canvas(), (0, 0), "a" * 100 + "z.png", "#ffffff", font, SIDE)
    assert shown[0].startswith("aaa")
    assert "…" in shown[0]
    assert shown[0].endswith("z.png")
    assert canvas.textlength(shown[0], font=font) <= SIDE


def test_volumes_show_the_slice_with_most_of_the_mask(tmp_path):
    rows = [["image", "label", "mask", "patient"]]
    for i in range(3):
        values = np.random.default_rng(i).normal(size=(20, 16, 10)).astype(np.float32)
        mask = np.zeros((20, 16, 10), dtype=np.uint8)
        mask[12:18, 2:6, 3 + i] = 1
        mask[3, 3, :] = 1
        save_volume(tmp_path / f"v{i}.nii.gz", values)
        save_volume(tmp_path / f"m{i}.nii.gz", mask)
        rows.append([f"v{i}.nii.gz", "tumor", f"m{i}.nii.gz" if i else "", f"{i}"])
    table = read_table(write_rows(tmp_path, rows))
    assert write_sheet(tmp_path / "a.png", table, DataConfig(), [], None) == 3
    sheet = drawn(tmp_path / "a.png")
    assert not blue(tile(sheet, 0)).any()
    outline = blue(tile(sheet, 1))
    y, x = np.nonzero(outline)
    # X to the right, Y upwards: the block lies at the lower right, 12 pixels a voxel.
    assert abs(x.max() - 18 * 12) <= 4
    assert abs(y.max() - (24 + (16 - 2) * 12)) <= 4


def test_the_command_writes_the_sheet_and_tells_where(folder, tmp_path, capsys):
    out = tmp_path / "new" / "pictures"
    code = weakseg("validate", folder / "labels.csv", "--pictures", out)
    said = capsys.readouterr()
    assert code == 0
    assert "no problems" in said.out
    assert f"8 images with the outlines of their masks: {out / 'masks.png'}" in said.err
    assert [p.name for p in out.iterdir()] == ["masks.png"]
    assert blue(tile(drawn(out / "masks.png"), 0)).any()
    assert weakseg("validate", folder / "labels.csv", "--pictures", out, "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_command_draws_what_the_rule_takes_and_keeps_its_exit_code(folder, tmp_path, capsys):
    code = weakseg(
        "validate", folder / "labels.csv", "--mask-rule", "7", "--pictures", tmp_path / "out"
    )
    assert code == 2
    assert "lesion-without-mask" in capsys.readouterr().out
    assert not blue(tile(drawn(tmp_path / "out" / "masks.png"), 0)).any()


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_read(folder, capsys):
    (folder / "file").write_text("")
    assert weakseg("validate", folder / "labels.csv", "--pictures", folder / "file") == 2
    said = capsys.readouterr()
    assert "The folder for pictures cannot be made." in said.err
    assert str(folder / "file") in said.err
    assert said.out == ""


def test_a_manifest_that_cannot_be_read_gives_no_pictures(tmp_path, capsys):
    assert weakseg("validate", tmp_path / "none.csv", "--pictures", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert "does not exist" in said.out
    assert "no pictures" in said.err
    assert list((tmp_path / "out").iterdir()) == []


def test_images_whose_mask_is_joined_are_among_those_shown():
    two = {77: "a77.png;b77.png", 78: "a78.png;b78.png"}
    table = table_of(*(row(i, mask=two.get(i, f"{i}.png")) for i in range(2, 402)))
    shown = [r.line for r in choose_rows(table, [], None, 12)]
    assert {77, 78} <= set(shown)
    assert len(shown) == 12
