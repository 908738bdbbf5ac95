"""Weights from elsewhere, and trainings that go wrong, through the command line."""

import re
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import weakseg, write_config, write_set
from weakseg.config import STARTING_WEIGHTS, load_config
from weakseg.errors import RunError
from weakseg.layout import BEST, METRICS, RESUME, seed_folder, segmenter_stage
from weakseg.methods.classifiers import is_trained, load_classifier
from weakseg.methods.segmenters import load_segmenter, segmenter_key, taken_weights
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.runs import read_json
from weakseg.stages.prepare import prepared_run
from weakseg.stages.train_classifier import train_classifiers
from weakseg.training import checkpoints
from weakseg.training.classify import ClassifierTask
from weakseg.training.weights import load_weights

CONFIG = """
name: tiny
data: {{manifest: {manifest}, image_size: 48}}
classifier: {{arch: squeezenet1_1, epochs: 1, batch_size: 8, seeds: [0]}}
scores: {{bootstrap: 100}}
segmenters: {{net: {{arch: "encoder-unet:squeezenet1_1", epochs: 1, batch_size: 4}}}}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return write_config(folder, write_set(folder / "data"), CONFIG)


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """A run with a classifier; tests copy it."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert weakseg("train-classifier", config, "--run-dir", run, "--device", "cpu") == 0
    return run


@pytest.fixture(scope="module")
def checkpoint():
    """What a training elsewhere would have saved: five classes, colours, in parallel."""
    torch.manual_seed(1)
    net = build_classifier(ClassifierSpec("squeezenet1_1", tuple("abcde"), 3)).net
    return {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}


def train(config, run, *settings):
    more = [word for s in settings for word in ("--set", s)]
    return weakseg("train-classifier", config, "--run-dir", run, "--device", "cpu", *more)


def test_a_checkpoint_of_another_training_is_the_beginning(config, tmp_path, checkpoint, capsys):
    torch.save(checkpoint, tmp_path / "w.pth")
    weights = f"classifier.weights={tmp_path / 'w.pth'}"
    assert train(config, tmp_path / "run", weights, "classifier.lr=1.0e-9") == 0
    said = capsys.readouterr().err
    assert re.search(r"w\.pth: loaded, but for .*classifier\.1\.bias, which start anew", said)
    entry = read_json(tmp_path / "run/run.json")["stages"]["classifier/squeezenet1_1/0"]
    assert entry["random_tensors"] == ["classifier.1.weight", "classifier.1.bias"]
    assert entry["best_because"].startswith("the highest val_auc")
    folder = seed_folder(tmp_path / "run", "squeezenet1_1", 0)
    best, _ = load_weights(folder / BEST)
    theirs = checkpoint["state_dict"]
    name = "features.3.squeeze.weight"
    torch.testing.assert_close(best[f"net.{name}"], theirs[f"module.{name}"], rtol=0, atol=1e-5)


def test_weights_that_have_gone_leave_what_began_with_them(config, tmp_path, checkpoint, capsys):
    file, other, run = tmp_path / "w.pth", tmp_path / "other.pth", tmp_path / "run"
    torch.save(checkpoint, file)
    nets, stage = f"segmenters.net.weights={file}", segmenter_stage("net", 0)
    assert train(config, run, f"classifier.weights={file}", nets) == 0
    loaded = load_config(config, ["device=cpu", f"classifier.weights={file}", nets])
    with prepared_run(loaded, run) as prepared:
        key = segmenter_key(prepared, "net", 0)
        entry = {"key": key, STARTING_WEIGHTS: taken_weights(prepared, "net", 0)}
        prepared.run.update(stages=prepared.run.record["stages"] | {stage: entry})
    file.unlink()
    capsys.readouterr()
    assert train(config, run, f"classifier.weights={file}", nets) == 0
    assert "classifier, seed 0: up to date" in capsys.readouterr().err
    with prepared_run(loaded, run) as prepared:
        assert segmenter_key(prepared, "net", 0) == key
        # Another file that is there counts.
        torch.save(checkpoint | {"epoch": 4}, other)
        asked = load_config(config, ["device=cpu", f"classifier.weights={other}"])
        assert not is_trained(replace(prepared, config=asked), 0)
    # What is to be trained needs its file.
    assert train(config, run, f"classifier.weights={file}", "classifier.epochs=2") == 2
    assert train(config, tmp_path / "new", f"classifier.weights={file}") == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.thorough
def test_a_frozen_network_stays_as_its_weights_are_and_goes_on_where_it_was_broken_off(
    config, tmp_path, checkpoint, monkeypatch
):
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)  # a checkpoint after every epoch
    torch.save(checkpoint, tmp_path / "w.pth")
    changes = [f"classifier.weights={tmp_path / 'w.pth'}", "classifier.freeze=true"]
    changes += ["classifier.epochs=2", "device=cpu"]

    def killed(epoch):
        if epoch == 1:
            raise KeyboardInterrupt

    frozen = load_config(config, changes)
    with prepared_run(frozen, tmp_path / "whole") as prepared:
        train_classifiers(prepared)
    with pytest.raises(KeyboardInterrupt), prepared_run(frozen, tmp_path / "broken") as prepared:
        train_classifiers(prepared, after_epoch=killed)
    with prepared_run(frozen, tmp_path / "broken") as prepared:
        train_classifiers(prepared)
    whole, broken = (
        load_weights(seed_folder(tmp_path / run, "squeezenet1_1", 0) / BEST)[0]
        for run in ("whole", "broken")
    )
    assert all(torch.equal(t, broken[n]) for n, t in whole.items())
    for name, given in checkpoint["state_dict"].items():
        if "classifier.1" not in name and "features.0" not in name:  # grey: summed over colours
            assert torch.equal(whole[name.replace("module.", "net.")], given), name


@pytest.mark.parametrize("key", ["classifier.weights", "segmenters.net.weights"])
def test_a_file_that_holds_nan_is_refused_before_anything_is_written(
    config, tmp_path, checkpoint, capsys, key
):
    state = dict(checkpoint["state_dict"])
    name = "module.features.3.squeeze.weight"
    state[name] = torch.full_like(state[name], float("nan"))
    torch.save(state, tmp_path / "w.pth")
    assert train(config, tmp_path / "run", f"{key}={tmp_path / 'w.pth'}") == 2
    said = capsys.readouterr().err
    assert "no finite numbers" in said
    assert "w.pth, tensor 'features.3.squeeze.weight'" in said
    assert not (tmp_path / "run").exists()


def test_a_pickled_network_is_refused_before_anything_is_written(config, tmp_path, capsys):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    assert train(config, tmp_path / "run", f"classifier.weights={tmp_path / 'w.pth'}") == 2
    said = capsys.readouterr().err
    assert "holds Python objects" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_run_s_network_of_nan_is_refused_by_file_and_key(trained, tmp_path, value):
    run = shutil.copytree(trained, tmp_path / "run")
    best = seed_folder(run, "squeezenet1_1", 0) / BEST
    _, meta = load_weights(best)
    state = load_file(best)
    state["net.features.0.weight"][0, 0, 1, 1] = value
    save_file(state, best, meta)
    where = r"best\.safetensors, tensor 'net\.features\.0\.weight'"
    with pytest.raises(RunError, match=rf"no finite numbers(.|\n)*{where}") as e:
        load_classifier(best.parent)
    assert e.value.exit_code == 2


def test_a_run_s_segmenter_of_nan_is_refused_by_file_and_key(tmp_path):
    from weakseg.models.segmenters import build_segmenter
    from weakseg.training.weights import save_weights

    net = build_segmenter("deepmedic", 1, 2)
    name = next(k for k, v in net.state_dict().items() if k.endswith("running_var"))
    net.state_dict()[name].fill_(float("inf"))
    meta = {"arch": "deepmedic", "channels": "1", "dims": "2"}
    save_weights(tmp_path / BEST, net, meta)
    with pytest.raises(RunError, match=rf"trained segmenter(.|\n)*tensor '{re.escape(name)}'"):
        load_segmenter(tmp_path)


@pytest.mark.thorough
def test_a_training_that_diverges_ends_with_advice_and_loses_nothing(
    config, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)  # a checkpoint after every epoch
    loss = ClassifierTask.loss

    def diverges(self, model, batch):
        self.calls = getattr(self, "calls", 0) + 1
        broken = self.calls > 2 * self.steps  # from the third epoch on
        return loss(self, model, batch) * (float("nan") if broken else 1)

    monkeypatch.setattr(ClassifierTask, "loss", diverges)
    assert train(config, tmp_path / "run", "classifier.epochs=4") == 2
    said = capsys.readouterr().err
    assert "became nan in epoch 3" in said
    assert "lower the learning rate" in said
    assert "Traceback" not in said
    folder = seed_folder(tmp_path / "run", "squeezenet1_1", 0)
    assert int(load_weights(folder / BEST)[1]["epoch"]) in (1, 2)
    assert all(v.isfinite().all() for v in load_file(folder / BEST).values())
    assert len(torch.load(folder / RESUME, weights_only=True)["history"]) == 2
    assert len((folder / METRICS).read_text().splitlines()) == 3
    stages = read_json(tmp_path / "run/run.json").get("stages", {})
    assert "best_epoch" not in stages.get("classifier/squeezenet1_1/0", {})
    monkeypatch.setattr(ClassifierTask, "loss", loss)
    assert train(config, tmp_path / "run", "classifier.epochs=4") == 0
    assert "going on after epoch 2 of 4" in capsys.readouterr().err


def test_a_rate_that_is_far_too_high_is_no_fault_of_ours(config, tmp_path, capsys):
    assert train(config, tmp_path / "run", "classifier.lr=1.0e+20", "classifier.epochs=3") == 2
    said = capsys.readouterr().err
    assert re.search(r"became .* in epoch \d", said)
    assert "Traceback" not in said


def test_a_network_whose_first_layer_cannot_be_summed_says_so(config, tmp_path, capsys):
    pytest.importorskip("timm", reason="timm is an extra")
    from weakseg.stages.prepare import prepared_run

    path = ["classifier.arch=timm:test_nfnet", "segmenters={}"]
    with prepared_run(load_config(config, path), tmp_path / "run"):
        pass
    assert "timm:test_nfnet takes grey images repeated" in capsys.readouterr().err
