"""A run that lends what it made to another of the same images."""

from pathlib import Path

import pytest

from weakseg.config import dump_config, parse_config
from weakseg.data.cases import Case, CaseSet, Labels
from weakseg.errors import RunError
from weakseg.layout import config_file
from weakseg.methods.other_runs import other_run
from weakseg.methods.prepared import Prepared
from weakseg.runs import Run, write_json

OLD = {"splits_key": "all"}
OPENED = {"splits_key": "all", "images_key": "images", "images_known_as": "all"}
CORRECTED = {"splits_key": "newer", "images_key": "images", "images_known_as": "all"}
NEW = {"splits_key": "all", "images_key": "images"}
NEWER = {"splits_key": "newer", "images_key": "images"}
OTHER = {"splits_key": "else", "images_key": "others"}
SET = {
    **{"source": "labels.csv", "simulated": False, "patients_known": True, "channels": 1},
    **{"dims": 2, "distances": "pixels", "healthy_labels": ["normal"], "lesion_labels": ["x"]},
    **{"splits": [], "key": "k", "fingerprint": "f"},
}
CONFIG = parse_config({"name": "n", "data": {"manifest": "labels.csv"}})


def run(folder: Path, data) -> Run:
    folder.mkdir()
    write_json(folder / "run.json", {"data": SET | data})
    config_file(folder).write_text(dump_config(CONFIG))
    return Run(folder)


def borrower(folder: Path, data) -> Prepared:
    cases = CaseSet((Case("a", Path("a.png"), "normal"),), Labels(("normal",), ("x",)), "l.csv")
    named = data.get("images_known_as") or data.get("images_key")
    return Prepared(CONFIG, run(folder, data), cases, 1, data["splits_key"], named, None)


@pytest.mark.parametrize("mine", [OPENED, CORRECTED, NEW, NEWER])
@pytest.mark.parametrize(
    ("lender", "named"),
    [(OLD, "all"), (OPENED, "all"), (CORRECTED, "all"), (NEW, "images"), (NEWER, "images")],
)
def test_a_lender_goes_by_the_names_of_its_own_record(tmp_path, mine, lender, named):
    run(tmp_path / "lender", lender)
    if lender is OLD and mine is NEWER:  # that the images are the same is in neither record
        with pytest.raises(RunError, match="other data, or of other splits"):
            other_run(borrower(tmp_path / "run", mine), tmp_path / "lender", "masks")
        return
    found = other_run(borrower(tmp_path / "run", mine), tmp_path / "lender", "masks")
    assert (found.key, found.images_key) == (lender["splits_key"], named)


@pytest.mark.parametrize("lender", [OTHER, {}, {"splits_key": None}])
def test_a_run_of_other_images_lends_nothing(tmp_path, lender):
    run(tmp_path / "lender", lender)
    with pytest.raises(RunError, match="other data, or of other splits"):
        other_run(borrower(tmp_path / "run", NEW), tmp_path / "lender", "masks")
