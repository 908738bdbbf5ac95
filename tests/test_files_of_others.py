"""Folders in a run that no stage has written stay, whatever is made again around them."""

from types import SimpleNamespace

import pytest

from weakseg import layout
from weakseg.config import dump_config, parse_config
from weakseg.outputs import last_written, list_outputs
from weakseg.runs import Run, write_json
from weakseg.stages.base import Stage, perform
from weakseg.stages.faithfulness import score_heatmaps
from weakseg.stages.heatmap_segment import _replace_masks

ENTRY = {"rule": "otsu", "threshold": 0.5, "scale": "image", "chosen_on": "", "masks_seen": 0}
ENTRY |= {"gate": 0.0, "split": "test", "upper_bound": False}


def experiment(*rules, **more):
    data, segmenters = {"manifest": "labels.csv"}, more.get("segmenters", {})
    tree = {"name": "x", "data": data, "masks": {"rules": list(rules)}, "segmenters": segmenters}
    return parse_config(tree)


def put(folder, method, text, kind="heatmap"):
    """Masks of a method in a folder of masks."""
    path = layout.mask_file(folder, method, 0, "p001", ".png")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    write_json(layout.threshold_file(folder, method), {"seed-0": ENTRY | {"kind": kind}})


def masks_of(run):
    folder = layout.masks_folder(run)
    return {p.parents[1].name: p.read_text() for p in sorted(folder.glob("*/seed-0/*.png"))}


def replaced(run, config, made):
    """Masks are made anew: of these methods, with this text."""
    for method in made:
        put(layout.fresh_masks(run), method, "new")
    prepared = SimpleNamespace(run=Run(run), config=config)
    _replace_masks(prepared, layout.fresh_masks(run))  # type: ignore[arg-type]
    return masks_of(run)


@pytest.fixture
def run(tmp_path):
    """A run with masks by otsu and at a fixed threshold, and two folders of somebody's own."""
    masks = layout.masks_folder(tmp_path)
    for method in ("gradcam-otsu", "gradcam-fixed"):
        put(masks, method, "old")
    paths = [layout.method_folder(masks, m) for m in ("gradcam-otsu", "gradcam-fixed")]
    list_outputs(tmp_path, layout.SEGMENT_STAGE, paths)
    put(masks, "otsu-corrected", "mine")  # a copy has a threshold.json as ours have
    put(masks, "by-hand", "mine")
    layout.threshold_file(masks, "by-hand").unlink()
    return tmp_path


MINE = {"by-hand": "mine", "otsu-corrected": "mine"}


def test_only_masks_that_an_earlier_stage_wrote_give_way_to_new_ones(run):
    assert replaced(run, experiment("otsu"), ["gradcam-otsu"]) == {"gradcam-otsu": "new", **MINE}
    assert not layout.fresh_masks(run).exists()


def test_a_rule_that_cannot_be_fitted_any_more_has_no_masks(run):
    now = experiment("otsu", "fixed")
    assert replaced(run, now, ["gradcam-otsu"]) == {"gradcam-otsu": "new", **MINE}


@pytest.mark.parametrize("text", ["", "[]", '{"../../x/y/z": 1, "masks/../y/z": 1}'])
def test_without_a_list_the_experiment_of_the_masks_tells_whose_they_are(run, text):
    layout.outputs_file(run, layout.SEGMENT_STAGE).write_text(text)
    layout.masks_config(run).write_text(dump_config(experiment("otsu", "fixed")))
    assert replaced(run, experiment("two-tone"), []) == MINE
    layout.masks_config(run).write_text("name: [")
    assert replaced(run, experiment("two-tone"), ["gradcam-two-tone"]).keys() > MINE.keys()


def test_masks_that_no_stage_has_finished_are_known_the_next_time(run):
    """A killed command: masks lie in their place, and the stage has no list of them yet."""
    layout.outputs_file(run, layout.SEGMENT_STAGE).unlink()
    half_done = replaced(run, experiment("two-tone"), ["gradcam-two-tone"])
    assert half_done["gradcam-two-tone"] == "new"
    made = replaced(run, experiment("otsu"), ["gradcam-otsu"])
    assert "gradcam-two-tone" not in made
    assert made.items() > MINE.items()


def test_masks_that_are_a_segmenter_s_by_now_stay(run):
    put(layout.masks_folder(run), "net", "of a network", kind="network")
    paths = [layout.method_folder(layout.masks_folder(run), m) for m in ("net", "gradcam-otsu")]
    list_outputs(run, layout.SEGMENT_STAGE, paths)
    now = experiment("otsu", segmenters={"net": {"arch": "unet"}})
    assert replaced(run, now, [])["net"] == "of a network"


def test_the_last_list_outlives_the_record(tmp_path):
    def write(_):
        (tmp_path / "a").write_text("x")
        return {}

    run = Run(tmp_path)
    assert last_written(tmp_path, "s") == []
    perform(run, Stage("s", "k", (tmp_path / "a",), write))
    run.forget("s")
    assert last_written(tmp_path, "s") == ["a"]


def test_scores_against_the_network_go_and_what_lies_beside_them_stays(tmp_path):
    folder = layout.faithfulness_folder(tmp_path, "resnet18", 0)
    folder.mkdir(parents=True)
    for name in (*layout.FAITHFULNESS, "notes.txt"):
        (folder / name).write_text("x")
    settings = SimpleNamespace(faithfulness=SimpleNamespace(images=0))
    prepared = SimpleNamespace(run=Run(tmp_path))
    sources = SimpleNamespace(prepared=prepared, arch="resnet18", seed=0, settings=settings)
    score_heatmaps(sources, ())  # type: ignore[arg-type]
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]
