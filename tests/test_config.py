"""The experiment file: defaults, overrides, and every problem named at once."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from weakseg.config import Config, dump_config, fingerprint, load_config, parse_config
from weakseg.config.differences import differences
from weakseg.errors import ConfigError
from weakseg.masks.rules import RULE_NAMES
from weakseg.settings import Keys

CONFIGS = Path(__file__).parents[1] / "configs"

NOT_DEFAULT = {"crf", "box-prompt", "affinity", "hypercolumn", "random-forest"}
NOT_DEFAULT |= {"region-growing", "watershed", "chan-vese", "snake"}
"""Rules that need an extra, or learn first; and the classical ones, of which there are enough."""


def write(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def test_an_empty_file_is_the_default(tmp_path):
    assert load_config(write(tmp_path, "")) == Config()


def test_every_rule_that_needs_no_extra_is_on_by_default():
    assert {r.rule for r in Config().masks.rules} == {*RULE_NAMES} - NOT_DEFAULT


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_committed_experiments_are_valid(path):
    assert load_config(path).name


def test_what_is_dumped_loads_as_the_same(tmp_path):
    config = parse_config({"seed": 3, "masks": {"rules": ["otsu", {"rule": "fixed", "at": 0.3}]}})
    assert load_config(write(tmp_path, dump_config(config))) == config


def test_overrides_are_yaml_and_applied_in_order(tmp_path):
    path = write(tmp_path, "classifier: {epochs: 3}")
    config = load_config(
        path, ["classifier.epochs=5", "classifier.seeds=[1, 2]", "classifier.epochs=6"]
    )
    assert config.classifier.epochs == 6
    assert config.seeds == [1, 2]


def test_seeds_default_to_the_runs_seed():
    assert parse_config({"seed": 7}).seeds == [7]


BAD = [
    ("clasifier: {}", "unknown key 'clasifier'; did you mean 'classifier'"),
    ("data: {manifst: a.csv}", "unknown key 'data.manifst'; did you mean 'manifest'"),
    ("data: {split: {vall: 0.1}}", "did you mean 'val'"),
    ("data: {image_size: huge}", "data.image_size: input should be a valid integer"),
    ("data: {image_size: 8}", "data.image_size: input should be greater than or equal to 32"),
    ("data: {split: {val: 0.5, test: 0.4}}", "must leave at least 0.2"),
    ("data: {mask_rule: [0, 1]}", "must not be empty or hold 0"),
    ("data: {mask_rule: otsu}", "data.mask_rule"),
    ("classifier: {epochs: 0}", "classifier.epochs: input should be greater than or equal to 1"),
    ("classifier: {lr: -1}", "classifier.lr: must be greater than 0"),
    ("classifier: {lr: .nan}", "classifier.lr"),
    ("classifier: {seeds: []}", "classifier.seeds"),
    ("classifier: {seeds: [1, 1]}", "the same seed twice"),
    ("classifier: {optimizer: adamx}", "input should be 'adamw' or 'sgd'"),
    ("masks: {rules: [otsuu]}", "did you mean 'otsu'"),
    ("masks: {rules: [otsu, otsu]}", "each rule may stand once, but otsu stands several"),
    ("masks: {rules: [{rule: fixed, att: 0.3}]}", "did you mean 'at'"),
    ("masks: {rules: [{rule: quantile, q: 2}]}", "masks.rules.0.q"),
    ("masks: {rules: [{rule: otsu, at: 0.5}]}", "'masks.rules.0.at'; known keys: rule\n"),
    ("filtered: {rule: {rule: fixed, att: 1}}", "'filtered.rule.att'; did you mean 'at'"),
    # YAML reads on and yes as true, which Python takes for 1.
    ("masks: {gate: on}", "masks.gate: must be a number, none or validation, not yes or no"),
    ("segmenters: {net: {threshold: yes}}", "net.threshold: must be a number or validation, not"),
    ("segmenters: {net: {gate: no}}", "net.gate: must be a number, none or run, not yes or no"),
    ("classifier: {lr: true}", "classifier.lr: must be a number or auto, not yes or no"),
    ("classifier: {map_area: [no, 0.5]}", "classifier.map_area: must be a number, not yes or no"),
    ("heatmap: {scales: [yes]}", "heatmap.scales: must be a number, not yes or no"),
    ("masks: {rules: [{rule: validation, max_masks: yes}]}", "rules.0.max_masks: must be a number"),
    ("seed: yes", "seed: must be a number, not yes or no (found True)"),
    # Keys and names of the user that are called as rules or types are.
    ("validation: 0.2", "unknown key 'validation'; known keys: name, recipe"),
    ("data: {split: {validation: 0.2}}", "'data.split.validation'; known keys: val, test, seed"),
    ("masks: {fixed: 0.4}", "unknown key 'masks.fixed'; known keys: rules, gate"),
    ("segmenters: {crf: {arhc: unet}}", "'segmenters.crf.arhc'; did you mean 'arch'"),
    ("segmenters: {float: {lr: [1]}}", "segmenters.float.lr: input should be a valid number"),
    ("heatmaps: {otsu: {rules: [{rule: fixed, at: 9}]}}", "heatmaps.otsu.rules.0.at: input"),
    ("classifier: {str: 3}", "unknown key 'classifier.str'"),
    ("masks: {gate: 3}", "masks.gate"),
    ("report: {method: gradcam-oracle-image}", "report.method: 'gradcam-oracle-image' is an upper"),
    ("name: ../escape", "names a folder"),
    # Names of devices, and a dot at the end, are no folder's on Windows.
    ("name: NUL", "Windows cannot have"),
    ("name: aux.v2", "Windows cannot have"),
    ("name: run.", "Windows cannot have"),
    ("segmenters: {com1: {}}", "'com1' becomes a folder's, which Windows cannot have"),
    ("heatmaps: {lpt9.x: {method: layercam}}", "'lpt9.x' becomes a folder's"),
    ("device: gpu", "choose auto, cpu, cuda"),
    ("seed: -1", "seed: input should be greater than or equal to 0"),
    ("- a\n- b", "not a mapping"),
    ("masks: {gate: '0,5'}", "1 problem:\n  - masks.gate: input should be a valid number"),
    (
        "masks: {gate: '0,5'}",
        "; write 0.5, with a point, or input should be 'none' or 'validation'",
    ),
    ("classifier: epochs = 3", "classifier: a section is expected: keys below it, each as 'key: v"),
    ("segmenters: unet", "segmenters: a section is expected"),
    (
        "data:\n\tmanifest: a",
        "in 'manifest: a'\n  fix: mend the line that is named: indent with sp",
    ),
    ("data:\n  split: {}\n manifest: a", "or the one above: keys of one section begin in the same"),
    ("a: b: c", "not YAML"),
    ("data: [1, 2]", "data"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_bad_file_says_where_and_what(tmp_path, text, message):
    with pytest.raises(ConfigError) as e:
        load_config(write(tmp_path, text))
    assert message in str(e.value)
    assert "c.yaml" in str(e.value)


def test_a_problem_of_a_changed_key_is_the_command_lines(tmp_path):
    def where(text, *changes):
        with pytest.raises(ConfigError) as e:
            load_config(path := write(tmp_path, text), changes)
        return str(e.value.where).replace(str(path), "FILE")

    assert where("seed: -1", "name=a", "classifier.epochs=3") == "FILE"
    assert where("seed: 1", "classifier.epoch=3") == "the command line, which changes FILE"
    assert where("seed: 1", "masks={gate: 3}") == "the command line, which changes FILE"
    assert where("seed: -1", "device=gpu") == "FILE, and the command line"
    # What is told of a whole section, or of how sections fit each other.
    assert where("seed: 1", "data.split.val=0.9") == "FILE, and the command line"
    assert where("seed: 1", "report.method=no") == "the command line, which changes FILE"
    assert where("report: {method: 'no'}", "name=a") == "FILE"


def test_an_upper_bound_may_be_a_step():
    config = parse_config({"report": {"steps": ["gradcam-otsu", "gradcam-oracle-image"]}})
    assert config.report.steps is not None


def sections(base):
    for section in base.__subclasses__():
        yield section
        yield from sections(section)


def test_no_number_may_be_yes_or_no():
    numbers = [
        (section, key)
        for section in sections(Keys)
        for key, field in section.model_fields.items()
        if re.search(r"\b(int|float)\b", str(field.annotation)) and field.annotation is not bool
    ]
    assert len(numbers) > 100
    for section, key in numbers:
        for value in (True, False, [True], [False, True]):
            with pytest.raises(ValidationError):
                section.model_validate({key: value})


def test_all_problems_are_reported_at_once(tmp_path):
    with pytest.raises(ConfigError, match="3 problems"):
        load_config(write(tmp_path, "seed: -1\nclassifier: {epochs: 0, epoch: 3}"))


@pytest.mark.parametrize("override", ["seed", "=3", "a..b=1", "seed.x=1", ".seed=1"])
def test_a_bad_override_is_quoted(tmp_path, override):
    with pytest.raises(ConfigError) as e:
        load_config(write(tmp_path, "seed: 1"), [override])
    assert f"--set {override}" in str(e.value)


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read(tmp_path, name):
    with pytest.raises(ConfigError, match="experiment file"):
        load_config(tmp_path / name)


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*Config.model_fields, "x"]), values, max_size=4))
def test_any_tree_is_either_a_config_or_a_config_error(tree):
    try:
        config = parse_config(tree)
    except ConfigError:
        return
    assert parse_config(yaml.safe_load(dump_config(config))) == config


def test_fingerprints_are_equal_for_equal_values_only():
    a, b = parse_config({"seed": 1}), parse_config({"seed": 2})
    assert fingerprint(a) == fingerprint(parse_config({"seed": 1}))
    assert fingerprint(a) != fingerprint(b)


def test_labels_that_yaml_reads_as_numbers_are_text(tmp_path):
    config = load_config(
        write(tmp_path, "data: {healthy_labels: [0], lesion_labels: 1}"), ["heatmap.target=1"]
    )
    assert config.data.healthy_labels == ["0"]
    assert config.data.lesion_labels == ["1"]
    assert config.heatmap.target == "1"
    with pytest.raises(ConfigError, match="quotation marks"):
        load_config(write(tmp_path, "data: {healthy_labels: [no]}"))


@pytest.mark.parametrize(
    ("training", "own", "expected"),
    [
        ("auto", "auto", "32-true"),
        ("bf16-mixed", "auto", "bf16-mixed"),
        ("32-true", "auto", "32-true"),
        ("bf16-mixed", "32-true", "32-true"),
        ("auto", "bf16-mixed", "bf16-mixed"),
    ],
)
def test_heatmaps_are_in_full_precision_unless_another_is_named(training, own, expected):
    config = Config.model_validate(
        {"classifier": {"precision": training}, "heatmap": {"precision": own}}
    )
    assert config.heatmap_precision("gradcam") == expected


def test_a_heatmaps_precision_counts_and_its_batch_does_not():
    plain = Config().heatmap
    named = plain.model_copy(update={"precision": "32-true"})
    assert named.fingerprint_settings() != plain.fingerprint_settings()
    larger = plain.model_copy(update={"batch_size": 2})
    assert larger.fingerprint_settings() == plain.fingerprint_settings()


def test_a_segmenter_that_one_experiment_lacks_is_one_difference():
    one = parse_config({"device": "cpu", "segmenters": {"a": {}, "b": {"epochs": 3}}})
    other = parse_config({"segmenters": {"b": {"epochs": 4}, "c": {}}})
    assert differences(one, other) == [
        "segmenters.a: there (now none)",
        "segmenters.b.epochs: 3 (now 4)",
        "segmenters.c: none (now there)",
    ]
    assert differences(one, one) == []
    turned = [parse_config({"segmenters": {"a": {"augment": a}}}) for a in ("auto", {"rotate": 3})]
    assert differences(*turned) == ["segmenters.a.augment: auto (now settings of its own)"]
