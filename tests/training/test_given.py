"""Weights that users give, as torch and safetensors write them; no code in them is run."""

import argparse

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from weakseg.errors import UserError
from weakseg.training.given import given_weights


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def check(path, net):
    found, _ = given_weights(path)
    own = net.state_dict()
    assert found.keys() == own.keys()
    assert all(torch.equal(v, own[k]) for k, v in found.items())


@pytest.mark.parametrize("ending", [".pth", ".pt", ".bin", ".ckpt", ".safetensors", ""])
@pytest.mark.parametrize("how", ["zip", "legacy", "safetensors"])
def test_what_is_in_a_file_decides_how_it_is_read(tmp_path, net, ending, how):
    path = tmp_path / f"w{ending}"
    if how == "safetensors":
        save_file(net.state_dict(), path, {"format": "pt"})
        assert given_weights(path)[1] == {"format": "pt"}
    else:
        torch.save(net.state_dict(), path, _use_new_zipfile_serialization=how == "zip")
    check(path, net)


@pytest.mark.parametrize(
    "key", ["state_dict", "model_state_dict", "model", "ema", "net", "state_dict_ema"]
)
def test_tensors_are_found_inside_a_checkpoint(tmp_path, net, key):
    held = {"epoch": 7, key: net.state_dict(), "optimizer": {"state": {0: torch.ones(3)}}}
    torch.save(held, tmp_path / "w.pth")
    check(tmp_path / "w.pth", net)
    torch.save({"checkpoint": 1, "model": held}, tmp_path / "w.pth")
    check(tmp_path / "w.pth", net)


def test_of_several_the_first_is_read_and_that_is_said(tmp_path, net, capsys):
    other = {k: v + 1 for k, v in net.state_dict().items()}
    torch.save({"ema": other, "state_dict": net.state_dict()}, tmp_path / "w.pth")
    check(tmp_path / "w.pth", net)
    assert "of state_dict, ema the tensors of state_dict are read" in capsys.readouterr().err


class Trap:
    """Runs code where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_is_run(tmp_path, net, zipped):
    held = {"state_dict": net.state_dict(), "extra": Trap(tmp_path / "owned")}
    torch.save(held, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"no code in it is run(.|\n)*w\.pth(.|\n)*torch\.save"):
        given_weights(tmp_path / "w.pth")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("kind", ["network", "namespace", "numpy"])
def test_python_objects_give_a_sentence_with_the_way_out(tmp_path, net, kind):
    held = {
        "network": net,
        "namespace": {"state_dict": net.state_dict(), "args": argparse.Namespace(lr=1)},
        "numpy": {"state_dict": net.state_dict(), "best": np.float64(0.5)},
    }[kind]
    torch.save(held, tmp_path / "w.pth")
    with pytest.raises(UserError) as e:
        given_weights(tmp_path / "w.pth")
    assert "holds Python objects" in e.value.what
    assert "weights_only=False" in e.value.fix
    blamed = {"network": "Sequential", "namespace": "Namespace", "numpy": "numpy"}[kind]
    assert blamed in e.value.found


def test_a_torchscript_program_is_not_run(tmp_path, net):
    torch.jit.save(torch.jit.script(net), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"TorchScript program(.|\n)*w\.pt"):
        given_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ({}, "an empty dictionary"),
        ({"epoch": 1, "state_dict": {}}, "a dictionary with epoch, state_dict"),
        (torch.ones(3), "Tensor"),
        ([torch.ones(3)], "list"),
    ],
)
def test_files_without_tensors_by_name_are_named_for_what_they_are(tmp_path, held, found):
    torch.save(held, tmp_path / "w.pth")
    with pytest.raises(UserError, match="no tensors by name") as e:
        given_weights(tmp_path / "w.pth")
    assert e.value.found == found


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 and no more", b"\x80\x02 and no more", b"", b"x" * 40, b"\x80"]
)
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged(.|\n)*w\.pth"):
        given_weights(path)


def test_a_file_that_was_cut_is_damaged(tmp_path, net):
    path = tmp_path / "w.pth"
    torch.save(net.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="damaged"):
        given_weights(path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        given_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("tensor", [torch.ones(2, 2).to_sparse(), torch.ones(2) * 1j])
def test_tensors_of_other_kinds_are_refused_by_name(tmp_path, tensor):
    torch.save({"a.weight": tensor}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"tensor 'a\.weight'"):
        given_weights(tmp_path / "w.pth")
