"""What is wrong with one of many segmenters is told before any of them is built."""

import sys

import pytest

from weakseg.config import parse_config
from weakseg.data.cases import Labels
from weakseg.errors import ConfigError, UserError
from weakseg.methods.checks import _check_segmenters, check_names, check_settings

LABELS = Labels(("normal",), ("tumor",))


def of(**archs):
    more = {"seeds": [0, 1], "ensemble": True}  # of several networks a mean
    return parse_config(
        {
            "segmenters": {
                n: {"arch": a, **(more if isinstance(a, list) else {})} for n, a in archs.items()
            }
        }
    )


@pytest.mark.parametrize(
    ("arch", "dims", "words"),
    [
        ("unte", 2, "no segmentation network 'unte'"),
        ("fcn8s:resnet19", 2, "no backbone 'resnet19'"),
        ("fcn8s", 3, "fcn8s does not segment volumes"),
        (["unet", "deepmedic"], 2, "different kinds of input"),
    ],
)
def test_one_that_cannot_be_is_told_before_the_others_are_built(arch, dims, words, monkeypatch):
    monkeypatch.setattr("weakseg.models.segmenters.build_segmenter", None)
    with pytest.raises(ConfigError, match=words) as e:
        check_settings(of(good="unet", wrong=arch), LABELS, 1, dims)
    assert e.value.where == "segmenters.wrong.arch"


def test_networks_are_built_without_memory_for_weights_and_refused_as_ever(monkeypatch):
    from weakseg.models import segmenters

    build, built = segmenters.build_segmenter, []

    def keep(*asked):
        built.append(build(*asked))
        return built[-1]

    monkeypatch.setattr(segmenters, "build_segmenter", keep)
    _check_segmenters(of(a="unet", b="unetpp", c="sw-unet"), 1, 2, {})
    assert {p.device.type for net in built for p in net.parameters()} == {"meta"}
    assert len(built) == 3
    assert {p.device.type for p in build("unet", 1, 2).parameters()} == {"cpu"}
    deep = parse_config({"segmenters": {"deep": {"arch": "unetpp", "prune": 9}}})
    with pytest.raises(ConfigError, match="no nested U-Net of that depth") as e:
        _check_segmenters(deep, 1, 2, {})
    assert e.value.where == "segmenters.deep.prune"


def test_names_alone_need_no_data():
    check_names(of())
    check_names(of(good="unet:mfr", pair=["unet", "fcn8s"]))
    with pytest.raises(ConfigError, match="no segmentation network") as e:
        check_names(of(good="unet", wrong="fcn9s"))
    assert e.value.where == "segmenters.wrong.arch"


@pytest.mark.parametrize(
    ("tree", "words", "where"),
    [
        ({"classifier": {"arch": "mil:resnet19"}}, "no classifier 'resnet19'", "classifier.arch"),
        ({"heatmap": {"method": "gradcm"}}, "no heatmap method 'gradcm'", "heatmap.method"),
        ({"heatmaps": {"b": {"method": "cam"}}}, "no heatmap method 'cam'", "heatmaps.b.method"),
    ],
)
def test_names_of_classifiers_and_heatmaps_need_no_data_either(tree, words, where):
    with pytest.raises(ConfigError, match=words) as e:
        check_names(parse_config(tree))
    assert e.value.where == where
    check_names(parse_config(tree | {"data": {"healthy_labels": []}}))  # nothing of it is trained


@pytest.mark.parametrize(
    ("tree", "dims", "words"),
    [
        ({"segmenters": {"deep": {"arch": "deepmedic"}}}, 2, "DeepMedic needs torch"),
        ({"heatmap": {"method": "eigencam"}}, 2, "eigencam needs torch"),
        ({"heatmaps": {"more": {"method": "scorecam"}}}, 2, "scorecam needs torch"),
        ({"classifier": {"arch": "mil:resnet18"}}, 3, "by mil:resnet18 need torch"),
        ({"heatmap": {"precision": "bf16-mixed"}}, 2, "onnxruntime does not compute in bf16"),
        (
            {"segmenters": {"u": {"arch": "unet", "precision": "bf16-mixed"}}},
            2,
            "onnxruntime does not compute in bf16",
        ),
    ],
)
def test_what_a_named_engine_cannot_do_is_told_before_anything_is_trained(tree, dims, words):
    with pytest.raises(UserError, match=words) as e:
        check_settings(parse_config(tree | {"engine": "onnxruntime"}), LABELS, 1, dims)
    assert e.value.where == "engine"
    for engine in ("torch", "auto"):
        check_settings(parse_config(tree | {"engine": engine}), LABELS, 1, dims)


def test_an_engine_that_is_not_installed_is_told_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr("weakseg.engines.base.find_spec", lambda name: None)
    for more in ({}, {"segmenters": {"u": {"arch": "unet"}}}):
        with pytest.raises(ConfigError, match="not installed") as e:
            check_settings(parse_config({"engine": "openvino"} | more), LABELS, 1)
        assert "weakseg[" in e.value.fix


def test_a_package_that_the_rule_of_filters_lacks_is_told_before_anything_is_trained(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(ConfigError, match="pydensecrf2") as e:
        check_settings(parse_config({"filtered": {"rule": "crf"}}), LABELS, 1)
    assert e.value.where == "filtered.rule"
    assert "weakseg[crf]" in e.value.fix
