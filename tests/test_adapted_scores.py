"""The score of `weakseg adapt` means by its words what every other table does."""

import numpy as np

from tests.data.helpers import save
from tests.tiny import read_rows, write_manifest
from weakseg.config import parse_config
from weakseg.data.cases import Case
from weakseg.predicting.adapted_scores import score

LESION, ELSEWHERE, EMPTY = (np.zeros((20, 20), np.uint8) for _ in range(3))
LESION[2:6, 2:6] = ELSEWHERE[12:16, 12:16] = 255


def test_missed_is_an_empty_mask_and_dice_is_of_lesions(tmp_path, capsys):
    rows, cases = [], []
    for k, (label, mask) in enumerate(
        [("tumour", ELSEWHERE), ("tumour", EMPTY), ("normal", EMPTY), ("normal", ELSEWHERE)]
    ):
        image = save(tmp_path / f"i{k}.png", np.full((20, 20), 9 * k + 5, np.uint8))
        truth = save(tmp_path / f"m{k}.png", LESION).name if label == "tumour" else ""
        rows.append([image.name, label, truth, f"p{k}"])
        cases.append(Case(f"i{k}", image, ""))
        save(tmp_path / f"before/i{k}.png", mask)
        save(tmp_path / f"after/i{k}.png", LESION if k == 0 else EMPTY)
    manifest = write_manifest(tmp_path / "labels.csv", rows)
    config = parse_config({"data": {"manifest": "x.csv"}}, "x")
    folders = (tmp_path / "before", tmp_path / "after")
    score(tmp_path / "s.csv", manifest, cases, folders, config, {"healthy_labels": ["normal"]})
    line = {r["label"]: r for r in read_rows(tmp_path / "s.csv")}

    def told(label, *names):
        return [float(line[label][f"{n}_{when}"]) for n in names for when in ("before", "after")]

    assert told("all", "missed", "no_overlap", "false_alarm") == [1, 1, 2, 1, 1, 0]
    assert told("all", "dice", "dice_all") == [0, 0.5, 0.25, 0.75]
    assert told("tumour", "dice", "dice_all") == [0, 0.5, 0, 0.5]
    assert line["normal"]["dice_before"] == line["normal"]["difference"] == ""
    assert told("normal", "dice_all") == [0.5, 1]
    assert line["all"]["difference"] == "0.5"
    # The interval of p0 and p1; p2 and p3 have no lesion.
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot be trusted: the test lesions are of 2 patients, fewer than 5)" in said
