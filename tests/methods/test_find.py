"""Which of a run's methods is ready for new images, and by which settings it is loaded."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml

from weakseg.config import parse_config
from weakseg.config.load import config_of_run
from weakseg.errors import RunError, UserError
from weakseg.layout import SEGMENT_STAGE, masks_stage, threshold_file
from weakseg.masks.rules import RULES
from weakseg.methods import find
from weakseg.methods.find import kind_of, load_method, method_names
from weakseg.outputs import list_outputs
from weakseg.runs import Run, write_json, write_text

SETTINGS = {
    "heatmap": {"method": "gradcam"},
    "heatmaps": {"wide": {"method": "layercam", "rules": ["fixed"]}},
    "masks": {"rules": ["validation", "fixed", "otsu", "oracle-image"]},
    "segmenters": {"net": {"arch": "unet"}, "pupil": {"arch": "unet", "masks": "gradcam-otsu"}},
}
METHODS = [
    "gradcam-validation",
    "gradcam-fixed",
    "gradcam-otsu",
    "gradcam-oracle-image",
    "wide-fixed",
    "net",
    "pupil",
]


def entry(name):
    """What ``threshold.json`` holds of a method."""
    common = {"gate": 0.0, "split": "test", "upper_bound": name.endswith("oracle-image")}
    if name in ("net", "pupil"):
        kind, seen = {"net": ("supervised", 9), "pupil": ("weak", 0)}[name]
        common |= {"rule": "probability", "threshold": 0.5, "scale": "probability"}
        return common | {"kind": kind, "chosen_on": "x", "masks_seen": seen}
    rule = next(r for r in ("validation", "fixed", "otsu", "oracle-image") if name.endswith(r))
    of_set = rule in ("validation", "fixed")
    return common | {
        "rule": RULES[rule]().model_dump(mode="json"),
        "threshold": 0.5 if of_set else None,
        "scale": "image",
        "chosen_on": "x",
        "masks_seen": {"validation": 4, "oracle-image": 6}.get(rule, 0),
        "kind": "oracle" if rule == "oracle-image" else "heatmap",
    }


def write_config(folder, file="config.yaml", /, **changes):
    write_text(folder / file, yaml.safe_dump(SETTINGS | changes))


@pytest.fixture
def run(tmp_path):
    """A run folder with masks by every method; returns how to take one of them for new images."""
    write_config(tmp_path)
    write_json(tmp_path / "run.json", {})
    for name in METHODS:
        write_json(threshold_file(tmp_path / "masks", name), {"seed-0": entry(name)})
    return tmp_path


@pytest.fixture
def load(run, monkeypatch):
    """`load_method` of the run, and all that it hands to its kind."""
    calls = []
    kinds = tuple(
        replace(k, load=lambda *a, at=i: calls.append((at, *a)) or f"loaded {a[2]}")
        for i, k in enumerate(find.KINDS)
    )
    monkeypatch.setattr(find, "KINDS", kinds)

    def call(*args, **named):
        calls.clear()
        made = load_method(run, *args, **named)
        (given,) = calls
        assert made == f"loaded {given[3]}"
        names = ("kind", "folder", "config", "name", "entries", "seed", "device")
        return SimpleNamespace(**dict(zip(names, given, strict=True)))

    return call


def forget(run, *names):
    for name in names:
        threshold_file(run / "masks", name).unlink()


# Which method


def test_without_a_word_the_first_that_saw_no_mask(load):
    assert load().name == "gradcam-fixed"


@pytest.mark.parametrize("name", ["gradcam-otsu", "gradcam-validation", "wide-fixed", "net"])
def test_the_report_s_method_is_taken_whatever_it_saw(run, load, name):
    write_config(run, report={"method": name})
    assert load().name == name
    # The masks may have been made before it was said.
    write_config(run, "masks/config.yaml")
    assert load().name == name


def test_a_report_s_method_without_masks_is_not_taken(run, load):
    write_config(run, report={"method": "gradcam-otsu"})
    forget(run, "gradcam-otsu")
    assert load().name == "gradcam-fixed"


def test_a_named_method_comes_before_the_report_s(run, load):
    write_config(run, report={"method": "gradcam-otsu"})
    for name in METHODS:
        assert load(name).name == name


def test_of_the_heatmap_a_rule_s_name_is_enough(run, load):
    assert load("otsu").name == "gradcam-otsu"
    assert load("validation").name == "gradcam-validation"
    assert load("fixed").name == "gradcam-fixed"
    forget(run, "gradcam-fixed")
    with pytest.raises(UserError):
        load("fixed")  # which `wide` has as well


def test_a_method_called_as_a_rule_is_the_method():
    methods = ["gradcam-otsu", "otsu"]
    assert find._find_method("gradcam", methods, "otsu") == "otsu"
    assert find._find_method("gradcam", methods, "gradcam-otsu") == "gradcam-otsu"


@pytest.mark.parametrize(
    ("asked", "fix"),
    [
        ("nett", "did you mean 'net'?"),
        ("zzz", "choose one of: " + ", ".join(m for m in METHODS if "oracle" not in m)),
    ],
)
def test_an_unknown_method_is_refused_with_the_nearest(load, asked, fix):
    with pytest.raises(UserError, match=f"no method '{asked}'") as e:
        load(asked)
    assert (e.value.where, e.value.fix) == ("--method", fix)


def test_where_all_saw_masks_the_answer_names_them_without_upper_bounds(run, load):
    forget(run, "gradcam-fixed", "gradcam-otsu", "wide-fixed", "pupil")
    with pytest.raises(UserError, match="gets by without true masks") as e:
        load()
    assert e.value.fix == "name one with --method: gradcam-validation, net"
    forget(run, "gradcam-validation", "net")
    with pytest.raises(UserError, match="gets by without true masks") as e:
        load()
    assert e.value.fix == "add a rule that needs no true mask to masks.rules, for example otsu"


def test_of_segmenters_that_all_saw_masks_a_taught_one_comes_first(run, load):
    forget(run, *[m for m in METHODS if m not in ("net", "pupil")])
    assert load().name == "pupil"
    path = threshold_file(run / "masks", "pupil")
    write_json(path, {"seed-0": entry("pupil") | {"masks_seen": 3}})
    assert load().name == "pupil"
    forget(run, "pupil")
    assert load().name == "net"


def test_masks_of_methods_that_the_experiment_has_no_more_are_not_taken(run, load):
    write_config(run, masks={"rules": ["validation", "otsu", "oracle-image"]})
    assert load().name == "gradcam-otsu"
    with pytest.raises(UserError):
        load("gradcam-fixed")


def test_a_folder_s_masks_are_of_the_kind_that_they_say(run, load):
    """A segmenter that is called as a heatmap's method once was has no masks yet."""
    write_json(threshold_file(run / "masks", "net"), {"seed-0": entry("gradcam-fixed")})
    write_json(threshold_file(run / "masks", "gradcam-fixed"), {"seed-0": entry("pupil")})
    assert load().name == "gradcam-otsu"
    for name in ("net", "gradcam-fixed"):
        with pytest.raises(UserError):
            load(name)
    both = {"seed-0": entry("gradcam-fixed"), "seed-1": entry("net")}
    write_json(threshold_file(run / "masks", "net"), both)
    assert load("net").kind == 1


# How it is loaded


def test_the_kind_gets_folder_settings_entries_seed_and_device(run, load):
    found = load("pupil", seed=3, device="cpu")
    assert (found.kind, found.folder, found.seed, found.device) == (1, run, 3, "cpu")
    assert list(found.entries) == METHODS
    assert found.entries["net"]["seed-0"]["masks_seen"] == 9
    found = load("otsu")
    assert (found.kind, found.seed, found.device) == (0, None, "auto")


def test_heatmaps_are_as_they_were_when_the_masks_were_made(run, load):
    """The experiment has changed since: a segmenter follows it, the masks of heatmaps do not."""
    write_config(run, "masks/config.yaml")
    write_config(
        run,
        heatmap={"method": "gradcam", "layer": "layer1"},
        masks={"rules": ["fixed"]},
        segmenters={"net": {"arch": "unet", "epochs": 9}},
    )
    assert load("otsu").name == "gradcam-otsu"
    assert load("gradcam-otsu").config.heatmap.layer == parse_config(SETTINGS).heatmap.layer
    assert load("net").config.segmenters["net"].epochs == 9
    with pytest.raises(UserError):
        load("pupil")


def test_a_rule_s_name_is_of_the_heatmap_that_the_masks_were_made_of(run, load):
    write_config(run, "masks/config.yaml")
    write_config(run, heatmap={"method": "hirescam"}, segmenters={})
    assert load("otsu").name == "gradcam-otsu"


@pytest.mark.parametrize(
    ("name", "stage"), [("gradcam-otsu", SEGMENT_STAGE), ("net", masks_stage("net"))]
)
def test_a_threshold_that_its_stage_did_not_write_is_refused(run, load, name, stage):
    path = threshold_file(run / "masks", name)
    outputs = list_outputs(run, stage, [path])
    Run(run).update(stages={stage: {"key": "k", "outputs": outputs}})
    assert load(name).name == name
    write_json(path, {"seed-0": entry(name) | {"chosen_on": "nothing at all"}})
    with pytest.raises(RunError, match="not what its stage wrote") as e:
        load(name)
    assert e.value.where == str(path)
    # Another method's is of no interest.
    other = "net" if name == "gradcam-otsu" else "gradcam-otsu"
    assert load(other).name == other


def test_a_run_without_masks_is_refused(run):
    forget(run, *METHODS)
    with pytest.raises(RunError, match="no masks yet") as e:
        load_method(run)
    assert e.value.where == str(run)
    assert "weakseg compare CONFIG" in e.value.fix
    with pytest.raises(RunError, match="no such run folder"):
        load_method(run / "nowhere")


# Of an experiment


def test_methods_stand_in_the_order_of_the_tables():
    config = parse_config(SETTINGS)
    assert method_names(config) == METHODS
    kinds = [kind_of(config, m) for m in METHODS]
    assert kinds == [find.KINDS[0]] * 5 + [find.KINDS[1]] * 2


def test_the_experiment_of_a_run_has_its_heatmaps_as_its_masks_were_made(run):
    assert config_of_run(run) == parse_config(SETTINGS)
    old = {
        "heatmap": {"method": "cam"},
        "heatmaps": {},
        "masks": {"rules": ["otsu"]},
        "classifier": {"epochs": 77},
        "segmenters": {},
        "name": "old",
    }
    write_config(run, "masks/config.yaml", **old)
    found, then, now = config_of_run(run), parse_config(old), parse_config(SETTINGS)
    for part in ("classifier", "heatmap", "heatmaps", "masks"):
        assert getattr(found, part) == getattr(then, part) != getattr(now, part)
    assert found.segmenters == now.segmenters
    assert found.name == now.name
