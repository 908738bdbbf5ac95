"""The table of segmentation networks."""

from types import SimpleNamespace

from weakseg.config import Config
from weakseg.report.sections.segmenters import lacking, segmenter_table


def settings(arch, weights, lr):
    own = {"arch": arch, "weights": weights, "lr": lr, "patch": "whole", "sampler": "uniform"}
    own |= {"loss": "ce", "optimizer": "adamw", "epochs": 2, "average": "ema", "masks": "manifest"}
    about = {"settings": own, "image_size": 64, "steps": 3, "batch": 4, "training_masks": 5}
    about |= {"validation_masks": 0, "sampled_prior": 0.1, "true_prior": 0.1, "dims": 2}
    return SimpleNamespace(settings=about)


def test_a_mean_of_several_kinds_of_network_names_each():
    two = {
        0: settings("unet", "none", 1e-3),
        1: settings("encoder-unet:resnet18", "/home/me/own.pt", 1e-4),
        2: settings("unet", "none", 1e-3),
    }
    one = {0: settings("unet", "none", 1e-3), 1: settings("unet", "none", 1e-3)}
    run = SimpleNamespace(segmenters={"mean": two, "alone": one}, stages={}, averaged=lambda n: ())
    mean, alone = segmenter_table(run).to_dict(orient="records")
    assert mean["arch"] == "unet + encoder-unet:resnet18"
    assert mean["weights"] == "none + own.pt"
    assert mean["lr"] == "0.001 + 0.0001"
    assert (mean["loss"], mean["steps"], mean["seeds"]) == ("ce", 3, 3)
    assert (alone["arch"], alone["weights"], alone["lr"]) == ("unet", "none", 1e-3)


def test_what_is_not_trained_of_all_its_seeds_is_named():
    nets = {"done": {"seeds": [0, 1]}, "half": {"seeds": [0, 1]}, "none": {"seeds": [3]}}
    config = Config.model_validate({"segmenters": nets})
    run = SimpleNamespace(config=config, segmenters={"done": {0: "", 1: ""}, "half": {1: ""}})
    assert lacking(run) == ["half", "none"]
    assert lacking(SimpleNamespace(config=Config(), segmenters={})) == []
