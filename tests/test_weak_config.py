"""Experiments with several heatmaps, recipes, and segmenters on another method's masks."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from weakseg.config import Config, SegmenterConfig, dump_config, load_config, parse_config
from weakseg.config.recipes import ENCODERS, MAP, METHOD, RECIPES, stand_in_note, with_recipe
from weakseg.errors import ConfigError
from weakseg.models.segmenters import find_segmenter


def write(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def refused(text, *words):
    with pytest.raises(ConfigError) as e:
        parse_config(yaml.safe_load(text))
    for word in words:
        assert word in str(e.value)


# Several heatmaps


def test_further_heatmaps_stand_behind_the_first_with_their_own_rules_or_the_experiments():
    config = parse_config(
        yaml.safe_load("""
heatmap: {method: hirescam}
masks: {rules: [otsu, fixed]}
heatmaps:
  deep: {method: layercam}
  fused: {layer: fused, flips: true, rules: [two-tone, {rule: fixed, at: 0.3}]}
""")
    )
    assert list(config.all_heatmaps) == ["hirescam", "deep", "fused"]
    assert config.all_heatmaps["deep"].method == "layercam"
    assert [r.rule for r in config.rules_of("deep")] == ["otsu", "fixed"]
    assert config.rules_of("fused")[1].at == 0.3
    assert config.heatmap_methods == {
        "hirescam-otsu": ("hirescam", "otsu"),
        "hirescam-fixed": ("hirescam", "fixed"),
        "deep-otsu": ("deep", "otsu"),
        "deep-fixed": ("deep", "fixed"),
        "fused-two-tone": ("fused", "two-tone"),
        "fused-fixed": ("fused", "fixed"),
    }


@pytest.mark.parametrize("empty", ["", "{}", "null"])
def test_a_heatmap_without_settings_is_the_default(empty):
    config = parse_config(yaml.safe_load(f"heatmaps: {{mine: {empty}}}"))
    assert config.heatmaps["mine"].method == "gradcam"
    assert config.rules_of("mine") == config.masks.rules
    assert parse_config({"heatmaps": None}).heatmaps == {}


BAD_HEATMAPS = [
    ("heatmaps: {gradcam: {}}", "heatmaps.gradcam", "goes by that name"),
    ("heatmaps: {GradCAM: {}}", "heatmaps.GradCAM", "goes by that name"),
    ("heatmaps: {a/b: {}}", "'a/b'", "becomes a folder's"),
    ("heatmaps: {floor-a: {}}", "'floor-a' is taken"),
    ("heatmaps: {a: {}, A: {}}", "upper and lower case"),
    ("heatmaps: {a: {rules: []}}", "heatmaps.a.rules"),
    ("heatmaps: {a: {rules: [otsu, otsu]}}", "each rule may stand once"),
    ("heatmaps: {a: {rules: [two-tnoe]}}", "did you mean 'two-tone'"),
    ("heatmaps: {a: {rules: [{rule: two-tone, wram: 0.3}]}}", "did you mean 'warm'"),
    ("heatmaps: {a: {rules: [{rule: two-tone, warm: 1}]}}", "warm"),
    ("heatmaps: {a: {rules: [{rule: two-tone, blur: 0.2}]}}", "blur"),
    ("heatmaps: {a: {fips: true}}", "unknown key 'heatmaps.a.fips'", "did you mean 'flips'"),
    ("heatmaps: {a: {layer: [x, x]}}", "heatmaps.a.layer", "each once"),
    ("heatmaps: {a: {scale: one}}", "heatmaps.a.scale"),
    ("heatmaps: [a]", "heatmaps"),
    ("heatmap: {rules: [otsu]}", "unknown key 'heatmap.rules'"),
]


@pytest.mark.parametrize("case", BAD_HEATMAPS, ids=lambda c: c[0])
def test_a_bad_heatmap_is_refused(case):
    refused(*case)


def test_two_methods_of_one_name_are_refused():
    """A heatmap x with the rule train-quantile, and a heatmap x-train with the rule quantile."""
    refused(
        "heatmaps: {x: {rules: [train-quantile]}, x-train: {rules: [quantile]}}",
        "two methods would be called 'x-train-quantile'",
    )


def test_two_methods_of_one_name_but_for_upper_and_lower_case_are_refused():
    refused(
        "heatmaps: {x: {rules: [train-quantile]}, X-train: {rules: [quantile]}}",
        "two methods would be called 'x-train-quantile'",
    )


# Segmenters on another method's masks

WEAK = """
masks: {rules: [otsu, fixed, oracle-image]}
heatmaps: {map: {rules: [two-tone]}}
segmenters:
  a: {masks: map-two-tone, ignore: [0.2, 0.6], min_peak: 0.9, min_area: 0.01}
  b: {masks: a}
  c: {masks: gradcam-otsu}
  d: {masks: runs/other/anything}
  e: {}
"""


def test_masks_may_come_from_a_heatmap_a_segmenter_before_it_or_another_run():
    config = parse_config(yaml.safe_load(WEAK))
    assert [s.weak for s in config.segmenters.values()] == [True, True, True, True, False]
    assert config.segmenters["a"].ignore == (0.2, 0.6)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("b.masks", "c", ["segmenters.b.masks", "'c' must stand before 'b'"]),
        ("b.masks", "b", ["segmenters.b.masks", "'b' must stand before 'b'"]),
        ("b.masks", "map", ["no method 'map'", "map-two-tone", "RUN/METHOD"]),
        ("b.masks", "map-otsu", ["no method 'map-otsu'"]),
        ("b.masks", "gradcam-two-tone", ["no method 'gradcam-two-tone'"]),
        ("b.masks", "", ["no method ''"]),
        ("b.masks", "Manifest", ["no method 'Manifest'", "manifest"]),
        ("e.ignore", [0.2, 0.6], ["segmenters.e.ignore", "for masks of another method only"]),
        ("a.ignore", [0.6, 0.2], ["segmenters.a.ignore", "must not be above the second"]),
        ("a.ignore", [0.2], ["segmenters.a.ignore"]),
        ("a.ignore", [0.2, 1.2], ["segmenters.a.ignore"]),
        ("a.min_peak", 1.1, ["segmenters.a.min_peak"]),
        ("a.min_peak", -0.1, ["segmenters.a.min_peak"]),
        ("a.min_area", 2, ["segmenters.a.min_area"]),
        ("a.loss", "gcee", ["segmenters.a.loss"]),
        ("a.maks", "b", ["did you mean 'masks'"]),
        ("gradcam-otsu", {}, ["segmenters.gradcam-otsu", "a heatmap method has that name"]),
        ("Map-Two-Tone", {}, ["segmenters.Map-Two-Tone", "a heatmap method has that name"]),
    ],
)
def test_bad_masks_are_refused(key, value, words):
    tree = yaml.safe_load(WEAK)
    *parents, last = key.split(".") if "." in key else (key,)
    node = tree["segmenters"]
    for part in parents:
        node = node[part]
    node[last] = value
    refused(yaml.safe_dump(tree, sort_keys=False), *words)


def test_a_name_that_begins_as_a_heatmaps_is_no_methods():
    config = parse_config({"segmenters": {"gradcam-unet": {}, "gradcam": {}}})
    assert list(config.segmenters) == ["gradcam-unet", "gradcam"]


@pytest.mark.parametrize("masks", ["fixed", "oracle-image", "nothing"])
def test_the_curve_needs_true_masks(masks):
    tree = yaml.safe_load(WEAK) | {"equivalence": {"segmenter": "a"}}
    refused(yaml.safe_dump(tree), "equivalence.segmenter", "not trained on the manifest's masks")
    tree["equivalence"]["segmenter"] = "e"
    assert parse_config(tree).equivalence.segmenter == "e"


@pytest.mark.parametrize("method", ["map-two-tone", "a", "e"])
def test_the_page_may_speak_of_any_method_but_an_upper_bound(method):
    tree = yaml.safe_load(WEAK) | {"report": {"method": method}}
    assert parse_config(tree).report.method == method


@pytest.mark.parametrize("method", ["map", "two-tone", "manifest", "floor-everything"])
def test_the_page_cannot_speak_of_what_is_not_there(method):
    tree = yaml.safe_load(WEAK) | {"report": {"method": method}}
    refused(yaml.safe_dump(tree), f"report.method: there is no method {method!r}", "map-two-tone")


# Recipes


def test_the_recipe_is_a_fused_heatmap_split_by_tone_and_a_network_on_its_masks():
    config = parse_config({"recipe": "best-weak"})
    heat = config.heatmaps[MAP]
    assert (heat.layer, heat.flips, heat.score) == ("fused", True, "log-odds")
    assert [r.rule for r in config.rules_of(MAP)] == ["two-tone", "grown"]
    assert (heat.choose, heat.auc_drop, len(heat.scales)) == ("area", 0.04, 4)
    net = config.segmenters[METHOD]
    assert net.weak
    assert net.ensemble
    assert net.masks == "best-map-grown"
    assert net.masks in config.heatmap_methods
    assert config.report.method == "best-weak"
    # What the recipe does not speak of stays.
    plain = Config()
    for key in ("data", "classifier", "heatmap", "masks", "scores", "equivalence", "filtered"):
        assert getattr(config, key) == getattr(plain, key)


@pytest.mark.parametrize("arch", ["resnet18", "squeezenet1_1", "efficientnet_b0", "timm:x"])
def test_its_network_stands_on_the_classifier_where_it_can(arch):
    net = parse_config({"recipe": "best-weak", "classifier": {"arch": arch}}).segmenters[METHOD]
    same = arch in ENCODERS
    assert net.arch == f"encoder-unet:{arch if same else 'resnet18'}"
    assert net.weights == ("classifier" if same else "none")


def recipe(**classifier):
    return {"recipe": "best-weak", "classifier": {"arch": "squeezenet1_1", **classifier}}


def test_its_networks_are_of_two_kinds_where_both_have_weights(tmp_path):
    config = parse_config(recipe(weights="imagenet", seeds=[5]))
    net = config.segmenters[METHOD]
    assert net.kinds == [
        ("encoder-unet:squeezenet1_1", "classifier"),
        ("encoder-unet:mobilenet_v2", "imagenet"),
    ]
    archs = [config.segmenter(METHOD, s).arch for s in config.segmenter_seeds(METHOD)]
    assert [a.partition(":")[2] for a in archs] == ["squeezenet1_1", "mobilenet_v2"] * 2
    assert config.segmenter(METHOD, 2).weights == "imagenet"
    assert stand_in_note(config) is None


def test_weights_of_the_second_kind_lie_beside_the_first_s(tmp_path):
    given = tmp_path / "squeezenet1_1/net.safetensors"
    alone = parse_config(recipe(weights=str(given)))
    assert alone.segmenters[METHOD].kinds == [("encoder-unet:squeezenet1_1", "classifier")]
    assert alone.segmenters[METHOD].seeds is None
    note = stand_in_note(alone)
    assert note is not None
    assert f"no weights of mobilenet_v2 lie beside {given}" in note
    for place in ("mobilenet_v2/mobilenet_v2.fp16.safetensors", "squeezenet1_1/mobilenet_v2.pth"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(b"")
        config = parse_config(recipe(weights=str(given)))
        assert config.segmenter(METHOD, 1).weights == str(tmp_path / place)
        assert config.segmenter(METHOD, 2).weights == str(given)
        assert stand_in_note(config) is None


@pytest.mark.parametrize(
    ("own", "classifier"),
    [
        ({"arch": "unet"}, {"weights": "imagenet"}),
        ({"weights": "none"}, {"weights": "imagenet"}),
        ({"ensemble": False}, {"weights": "imagenet"}),
        ({}, {}),
        ({}, {"arch": "mobilenet_v2", "weights": "imagenet"}),
    ],
)
def test_they_are_of_one_kind_where_that_is_asked_for_or_all_there_is(own, classifier):
    tree = recipe(**classifier) | {"segmenters": {METHOD: own}}
    config = parse_config(tree)
    assert len(config.segmenters[METHOD].kinds) == 1
    assert config.segmenters[METHOD].seeds is None
    assert stand_in_note(config) is None


@pytest.mark.parametrize("weights", ["imagenet", "net.pth"])
def test_of_one_seed_its_network_is_of_the_first_kind(weights):
    own = {"segmenters": {METHOD: {"seeds": [3]}}}
    config = parse_config(recipe(weights=weights) | own)
    assert config.segmenters[METHOD].kinds == [("encoder-unet:squeezenet1_1", "classifier")]
    assert config.segmenters[METHOD].seeds == [3]
    assert stand_in_note(config) is None


def test_weights_of_both_kinds_can_be_named():
    own = {"segmenters": {METHOD: {"weights": ["classifier", "other.pth"]}}}
    config = parse_config(recipe(weights="one.pth") | own)
    assert [config.segmenter(METHOD, s).weights for s in (0, 1)] == ["one.pth", "other.pth"]


def test_where_it_cannot_it_says_so():
    tree = {"recipe": "best-weak", "classifier": {"arch": "efficientnet_b0"}}
    note = stand_in_note(parse_config(tree))
    assert note is not None
    assert "no U-Net on efficientnet_b0; it is built on resnet18, from scratch" in note
    own = {"segmenters": {METHOD: {"arch": "unet"}}}
    for other in (tree | {"recipe": "none"}, tree | own, {"recipe": "best-weak"}):
        assert stand_in_note(parse_config(other)) is None


@pytest.mark.parametrize("arch", ENCODERS)
def test_every_encoder_is_a_segmentation_networks(arch):
    assert find_segmenter(f"encoder-unet:{arch}")


def test_settings_of_the_experiment_win():
    config = parse_config(
        yaml.safe_load("""
recipe: best-weak
classifier: {precision: bf16-mixed}
heatmaps:
  best-map: {method: hirescam, rules: [otsu, grown]}
  mine: {}
segmenters:
  unet: {epochs: 3}
  best-weak: {epochs: 2, threshold: validation, arch: unet, weights: none}
report: {gallery: 0, method: unet}
""")
    )
    heat = config.heatmaps[MAP]
    assert (heat.method, heat.layer, heat.flips) == ("hirescam", "fused", True)
    assert [r.rule for r in config.rules_of(MAP)] == ["otsu", "grown"]
    net = config.segmenters[METHOD]
    assert (net.epochs, net.threshold, net.arch) == (2, "validation", "unet")
    assert (net.false_alarms, net.precision) == (0.02, "bf16-mixed")
    assert config.segmenters["unet"].epochs == 3
    assert config.segmenters["unet"].masks == "manifest"
    assert (config.report.gallery, config.report.method) == (0, "unet")


def test_its_networks_have_the_augmentation_that_the_classifier_has_by_name():
    """So that a sweep over one key compares whole chains."""

    def calipers(**settings):
        config = parse_config({"recipe": METHOD, **settings})
        augment = config.segmenters[METHOD].augment
        return (
            config.classifier.augment.calipers,
            augment if augment == "auto" else augment.calipers,
        )

    look = {"augment": "ultrasound-look"}
    assert calipers(classifier=look) == (4, 4)
    assert calipers(classifier={"augment": "auto"}) == calipers() == (0, "auto")
    assert calipers(classifier={"augment": {"calipers": 2}}) == (2, "auto")
    assert calipers(classifier=look, segmenters={METHOD: {"augment": "auto"}}) == (4, "auto")


def test_lists_are_not_mixed():
    tree = {"recipe": "best-weak", "heatmaps": {MAP: {"rules": ["grown", "fixed", "otsu"]}}}
    assert len(parse_config(tree).rules_of(MAP)) == 3


@pytest.mark.parametrize("key", ["epochs", "steps"])
def test_who_says_how_long_the_recipes_networks_are_trained_is_taken_at_their_word(key):
    assert parse_config({"recipe": "best-weak"}).segmenters[METHOD].passes == 10
    own = {"recipe": "best-weak", "segmenters": {METHOD: {key: 3}}}
    assert parse_config(own).segmenters[METHOD].passes is None
    own["segmenters"][METHOD] = {key: None}
    assert parse_config(own).segmenters[METHOD].passes == 10
    own["segmenters"][METHOD] = {key: 3, "passes": 2}
    assert parse_config(own).segmenters[METHOD].passes == 2


def test_a_key_without_a_value_leaves_it_to_the_recipe():
    tree = {"recipe": "best-weak", "heatmaps": None, "segmenters": {METHOD: None}, "report": None}
    assert parse_config(tree) == parse_config({"recipe": "best-weak"})


CHANGES = [
    [],
    ["classifier.arch=efficientnet_b0"],
    ["classifier.precision=32-true", "classifier.seeds=[1, 2]"],
    ["heatmaps.best-map.rules=[two-tone, {rule: grown, warm: 0.5}]"],
    ["heatmaps.more={}", "segmenters.unet={masks: best-map-two-tone, ignore: [0.1, 0.9]}"],
    ["segmenters.best-weak.masks=runs/x/y", "report.method=best-map-two-tone"],
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_what_is_dumped_loads_as_the_same(tmp_path, changes):
    config = load_config(write(tmp_path, "recipe: best-weak"), changes)
    again = load_config(write(tmp_path, dump_config(config)))
    assert again == config
    assert again.recipe == "best-weak"


def test_a_network_may_follow_the_recipes_if_that_is_named_before_it():
    segmenters = {METHOD: None, "after": {"masks": METHOD}}
    config = parse_config({"recipe": "best-weak", "segmenters": segmenters})
    assert list(config.segmenters) == [METHOD, "after"]


def test_a_network_may_follow_the_recipes():
    config = parse_config({"recipe": "best-weak", "segmenters": {"after": {"masks": METHOD}}})
    assert list(config.segmenters) == [METHOD, "after"]


@pytest.mark.thorough
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "classifier": st.sampled_from([{}, {"arch": "vgg16"}, {"epochs": 2}, 3]),
            "heatmaps": st.sampled_from([None, {}, {"best-map": {"flips": False}}, {"m": None}, 3]),
            "segmenters": st.sampled_from([None, {}, {"best-weak": {"epochs": 1}}, {"u": {}}, []]),
            "report": st.sampled_from([None, {}, {"gallery": 1}, {"method": None}, "x"]),
        },
    )
)
def test_any_tree_under_a_recipe_is_a_config_that_comes_back_or_an_error(tree):
    before = yaml.safe_dump(tree)
    try:
        config = parse_config(tree | {"recipe": "best-weak"})
    except ConfigError:
        assert any(isinstance(v, int | list | str) for v in tree.values())
        return
    assert yaml.safe_dump(tree) == before
    assert parse_config(yaml.safe_load(dump_config(config))) == config


def test_a_recipe_by_set_is_the_same_as_in_the_file(tmp_path):
    text = "segmenters: {best-weak: {epochs: 1}}"
    by_set = load_config(write(tmp_path, text), ["recipe=best-weak"])
    assert by_set == load_config(write(tmp_path, f"recipe: best-weak\n{text}"))
    off = load_config(write(tmp_path, "recipe: best-weak"), ["recipe=none"])
    assert off == Config()


@pytest.mark.parametrize("recipe", ["best-week", "", 3, ["best-weak"], None])
def test_an_unknown_recipe_is_refused(tmp_path, recipe):
    with pytest.raises(ConfigError, match=r"recipe(.|\n)*'none' or 'best-weak'"):
        load_config(write(tmp_path, yaml.safe_dump({"recipe": recipe})))


def test_the_recipes_are_those_that_the_experiment_knows():
    for name, recipe in RECIPES.items():
        assert parse_config({"recipe": name}).recipe == name
        assert with_recipe({"recipe": name}) == recipe({}) | {"recipe": name}
        assert with_recipe({}) == {}


def test_the_recipes_network_has_no_setting_that_means_its_default():
    """What is written in a recipe is there because it differs."""
    written = RECIPES[METHOD]({})["segmenters"][METHOD]
    default = SegmenterConfig()
    same = [k for k, v in written.items() if getattr(default, k) == v and k != "precision"]
    assert same == []
