"""Where the run lies that lends a segmenter its masks, whatever folder a command is called in."""

from types import SimpleNamespace

import pytest

from weakseg.config import parse_config
from weakseg.layout import segmenter_stage
from weakseg.methods.outside import LENT_MASKS, LENT_MASKS_FROM
from weakseg.methods.pseudo_labels import is_gone, lender, source_key
from weakseg.runs import RECORD, Run, write_json


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """A folder with the run that lends, from which a command is called."""
    write_json(tmp_path / "home/runs/lender" / RECORD, {})
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def borrower(run, masks="runs/lender/method", **entry):
    stages = {segmenter_stage("net", 0): {"key": "k", LENT_MASKS: "taken", **entry}}
    write_json(run / RECORD, {"stages": stages})
    config = parse_config({"segmenters": {"net": {"arch": "unet", "masks": masks}}})
    return SimpleNamespace(config=config, run=Run(run))


def test_a_lender_is_not_gone_where_a_command_is_called_elsewhere(at_home, tmp_path, monkeypatch):
    path = at_home / "runs/lender"
    known = borrower(tmp_path / "known", **{LENT_MASKS_FROM: str(path)})
    unknown = borrower(tmp_path / "unknown")
    for one in (known, unknown):
        assert not is_gone(lender(one, "net", 0))
    monkeypatch.chdir(tmp_path / "away")
    assert lender(known, "net", 0) == path
    assert not is_gone(path)
    assert is_gone(lender(unknown, "net", 0))
    assert source_key(unknown, "net", 0) == "taken"
    # One that is named otherwise by now is another.
    renamed = borrower(tmp_path / "known", "runs/other/method", **{LENT_MASKS_FROM: str(path)})
    assert is_gone(lender(renamed, "net", 0))
    known = borrower(tmp_path / "known", **{LENT_MASKS_FROM: str(path)})
    (path / RECORD).unlink()
    assert is_gone(lender(known, "net", 0))
    assert source_key(known, "net", 0) == "taken"


def test_one_that_lies_where_it_is_named_comes_first(at_home, tmp_path):
    write_json(tmp_path / "old/runs/lender" / RECORD, {})
    entry = {LENT_MASKS_FROM: str(tmp_path / "old/runs/lender")}
    found = lender(borrower(tmp_path / "run", **entry), "net", 0)
    assert found.absolute() == at_home / "runs/lender"


def test_masks_of_the_run_itself_and_of_the_manifest_have_no_lender(tmp_path):
    for masks in ("manifest", "gradcam-otsu"):
        found = lender(borrower(tmp_path / "run", masks), "net", 0)
        assert found is None
        assert not is_gone(found)
