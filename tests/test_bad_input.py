"""Bad input tried on purpose: a clear error, exit code 2, and nothing half-written."""

import errno
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import read_rows, tree, weakseg, write_config, write_manifest, write_set
from weakseg.commands.failure import explain_failure
from weakseg.errors import lacks_memory
from weakseg.training.checkpoints import Training

HEADER = ("image", "label", "mask", "patient")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    write_set(folder)
    return folder


@pytest.fixture
def data(good, tmp_path):
    """A copy of a good set that a test may spoil."""
    shutil.copytree(good, tmp_path / "data")
    return tmp_path / "data"


def edit(data, change, header=HEADER):
    """Rewrite the manifest; `change` gets the rows as lists."""
    rows = [[r[h] for h in HEADER] for r in read_rows(data / "labels.csv")]
    change(rows)
    write_manifest(data / "labels.csv", rows, header)


def cell(row, column, value):
    def change(rows):
        rows[row][HEADER.index(column)] = value

    return lambda data: edit(data, change)


def append(*rows):
    return lambda data: edit(data, lambda all_rows: all_rows.extend(rows))


def text(content):
    return lambda data: (data / "labels.csv").write_bytes(content)


def overwrite(name, content):
    return lambda data: (data / name).write_bytes(content)


def truncate(name):
    def spoil(data):
        whole = (data / name).read_bytes()
        (data / name).write_bytes(whole[: len(whole) // 2])

    return spoil


def pixels(name, array, suffix="PNG"):
    return lambda data: Image.fromarray(array).save(data / name, format=suffix)


def stack(name):
    def spoil(data):
        page = Image.fromarray(np.zeros((48, 40), np.uint8))
        page.save(data / name, format="TIFF", save_all=True, append_images=[page, page])

    return spoil


def one_label(data):
    edit(data, lambda rows: [r.__setitem__(1, "tumor") for r in rows])


def split_column(values):
    def spoil(data):
        rows = [[r[h] for h in HEADER] for r in read_rows(data / "labels.csv")]
        rows = [[*r, values(i, r)] for i, r in enumerate(rows)]
        write_manifest(data / "labels.csv", rows, (*HEADER, "split"))

    return spoil


def by_patient(_i, row):
    return ("train", "val", "test")[int(row[3][1:]) % 3]


def few_patients(data):
    edit(
        data, lambda rows: [r.__setitem__(3, "P1" if i < 18 else "P2") for i, r in enumerate(rows)]
    )


BLACK, GREY = np.zeros((48, 40), np.uint8), np.full((48, 40), 7, np.uint8)
SMALL = np.zeros((47, 40), np.uint8)

# Row 2 of the manifest is images/p00_0.png, a tumour; row 3 is p00_1, healthy.
SPOILT = {
    "empty-file": (text(b""), "empty"),
    "header-only": (text(b"image,label\n"), "row"),
    "no-header": (text(b"images/p00_0.png,tumor\n"), "label"),
    "column-missing": (text(b"image,mask\nimages/p00_0.png,\n"), "'label'"),
    "column-misspelt": (text(b"image,lable\nimages/p00_0.png,tumor\n"), "lable"),
    "not-text": (text(b"\x89PNG\r\n\x1a\n\x00\xff\xfe"), "labels.csv"),
    "no-rows-in-utf-16": (text("image,label\n".encode("utf-16")), "labels.csv"),
    "image-missing": (cell(0, "image", "images/none.png"), "none.png"),
    "image-blank": (cell(0, "image", ""), "row 2"),
    "image-is-folder": (cell(0, "image", "images"), "row 2"),
    "image-not-an-image": (overwrite("images/p00_0.png", b"hello"), "p00_0.png"),
    "image-empty": (overwrite("images/p00_0.png", b""), "p00_0.png"),
    "image-truncated": (truncate("images/p00_0.png"), "p00_0.png"),
    "image-is-lfs-pointer": (
        overwrite("images/p00_0.png", b"version https://git-lfs.github.com/spec/v1\n"),
        "git lfs pull",
    ),
    "image-is-nifti": (
        overwrite("images/p00_0.png", b"\0" * 344 + b"n+1\0" + b"\0" * 100),
        "manifest of volumes",
    ),
    "image-is-volume": (cell(0, "image", "images/p00_0.nii.gz"), "write two manifests"),
    "column-for-volumes": (
        lambda d: edit(d, lambda rows: [r.append("masks/p00_0.png") for r in rows],
                       (*HEADER, "roi")),
        "'roi' is for volumes",
    ),
    "image-is-stack": (stack("images/p00_0.png"), "3 "),
    "image-twice": (append(["images/p00_0.png", "tumor", "masks/p00_0.png", "P00"]), "row 38"),
    "image-copied-other-patient": (
        lambda d: shutil.copy(d / "images/p02_0.png", d / "images/p04_0.png"),
        "p04_0.png",
    ),
    "mask-missing": (cell(0, "mask", "masks/none.png"), "none.png"),
    "mask-truncated": (truncate("masks/p00_0.png"), "masks/p00_0.png"),
    "mask-other-size": (pixels("masks/p00_0.png", SMALL), "47"),
    "mask-is-the-image": (cell(0, "mask", "images/p00_0.png"), "row 2"),
    "mask-empty-on-tumour": (pixels("masks/p00_0.png", BLACK), "row 2"),
    "mask-on-healthy": (pixels("masks/p00_1.png", GREY), "row 3"),
    "label-blank": (cell(0, "label", ""), "row 2"),
    "label-other-case": (cell(0, "label", "Tumor"), "Tumor"),
    "label-single": (one_label, "tumor"),
    "labels-not-understood": (
        lambda d: edit(d, lambda rows: [r.__setitem__(1, "ab"[i % 2]) for i, r in enumerate(rows)]),
        "data.healthy_labels",
    ),
    "class-too-rare": (cell(0, "label", "rare"), "rare"),
    "patient-blank-in-places": (cell(3, "patient", ""), "row 5"),
    "patients-too-few": (few_patients, "patient"),
    "fields-too-many": (
        lambda d: overwrite("labels.csv", (d / "labels.csv").read_bytes() + b"a,b,c,d,e,f\n")(d),
        "row 38",
    ),
    "split-unknown": (split_column(lambda i, r: "dev" if i == 4 else by_patient(i, r)), "row 6"),
    "split-blank": (split_column(lambda i, r: "" if i == 4 else by_patient(i, r)), "row 6"),
    "split-divides-patient": (split_column(lambda i, r: ("train", "val", "test")[i % 3]), "P00"),
    "split-without-test": (split_column(lambda i, r: ("train", "val")[int(r[3][1:]) % 2]), "test"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_data_are_refused_before_anything_is_written(name, data, tmp_path, capsys):
    spoil, message = SPOILT[name]
    spoil(data)
    config = write_config(tmp_path, data / "labels.csv")
    before = tree(tmp_path)
    assert weakseg("compare", config, "--run-dir", tmp_path / "run") == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert tree(tmp_path) == before
    assert not (tmp_path / "run").exists()
    assert weakseg("validate", data / "labels.csv") == 2
    assert message in capsys.readouterr().out


SETTINGS = {
    "arch": ("classifier.arch=resnet-18", "did you mean 'resnet18'"),
    "arch-timm": ("classifier.arch=timm:no_such_net", "timm has no network"),
    "layer": ("heatmap.layer=feature.12", "did you mean 'features.12'"),
    "method": ("heatmap.method=grad-cam", "did you mean 'gradcam'"),
    "target": ("heatmap.target=tumour", "did you mean 'tumor'"),
    "weights-missing": ("classifier.weights=none.safetensors", "does not exist"),
    "device": ("device=cuda:99", "not there"),
    "precision": ("classifier.precision=16", "should be 'auto', '32-true' or 'bf16-mixed'"),
    "healthy-label": ("data.healthy_labels=[helthy]", "helthy"),
    "label-in-both": ("data.lesion_labels=[tumor, normal]", "normal"),
    "mask-values": ("data.mask_rule=[3]", "3"),
    "manifest": ("data.manifest=none.csv", "none.csv"),
    "unknown-key": ("classifier.epoch=3", "did you mean 'epochs'"),
    "not-a-pair": ("classifier.epochs", "--set classifier.epochs"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(
    name, good, tmp_path, capsys
):
    setting, message = SETTINGS[name]
    config = write_config(tmp_path, good / "labels.csv")
    args = ["--run-dir", tmp_path / "run", "--device", "cpu", "--set", setting]
    args = [a for a in args if not (setting.startswith("device") and a in ("--device", "cpu"))]
    assert weakseg("compare", config, *args) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_weights_of_another_network_are_refused(good, tmp_path, capsys):
    import torchvision
    from safetensors.torch import save_file

    save_file(torchvision.models.shufflenet_v2_x0_5().state_dict(), tmp_path / "w.safetensors")
    config = write_config(tmp_path, good / "labels.csv")
    args = ["--set", f"classifier.weights={tmp_path / 'w.safetensors'}"]
    assert weakseg("compare", config, "--run-dir", tmp_path / "run", *args) == 2
    assert "do not belong to squeezenet1_1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_pickle_named_safetensors_runs_nothing(good, tmp_path, capsys):
    import torch

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"a": Evil()}, tmp_path / "w.safetensors")
    config = write_config(tmp_path, good / "labels.csv")
    args = ["--set", f"classifier.weights={tmp_path / 'w.safetensors'}"]
    assert weakseg("train-classifier", config, "--run-dir", tmp_path / "run", *args) == 2
    assert "w.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "owned").exists()


def test_a_run_folder_that_is_a_file_is_left_alone(good, tmp_path, capsys):
    config = write_config(tmp_path, good / "labels.csv")
    (tmp_path / "run").write_text("mine")
    assert weakseg("compare", config, "--run-dir", tmp_path / "run") == 2
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "run").read_text() == "mine"


def test_heatmaps_before_training_say_what_to_run(good, tmp_path, capsys):
    config = write_config(tmp_path, good / "labels.csv")
    assert weakseg("heatmap-segment", config, "--run-dir", tmp_path / "run") == 2
    assert "train-classifier" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "report"])
def test_a_folder_that_is_no_run_is_refused(command, good, tmp_path, capsys):
    inputs = [good / "images"] if command == "predict" else []
    for folder, message in ((tmp_path / "none", "no such run"), (good, "not a weakseg run")):
        assert weakseg(command, folder, *inputs, "--out", tmp_path / "out") == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "args", [[], ["no-such-command"], ["compare"], ["compare", "--no-such-option", "x"]]
)
def test_usage_errors_exit_with_2(args):
    assert weakseg(*args) == 2


def test_validate_json_holds_row_file_and_remedy_of_every_problem(data, capsys):
    import json

    cell(0, "mask", "masks/none.png")(data)
    cell(5, "image", "images/none.png")(data)
    assert weakseg("validate", data / "labels.csv", "--json") == 2
    problems = json.loads(capsys.readouterr().out)
    errors = [p for p in problems if p["severity"] == "error"]
    assert {p["row"] for p in errors} >= {2, 7}
    assert all(p["fix"] and p["message"] and p["kind"] for p in problems)


def test_validate_of_good_data_exits_with_0(good, capsys):
    assert weakseg("validate", good / "labels.csv") == 0
    assert "no problems" in capsys.readouterr().out
    assert weakseg("validate", good / "labels.csv", "--mask-rule", "255") == 0
    assert weakseg("validate", good / "labels.csv", "--mask-rule", "much") == 2


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def test_validate_of_an_experiment_says_what_is_wanted(tmp_path, capsys):
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text("# An experiment\ndata: {manifest: labels.csv}\n")
    assert weakseg("validate", experiment) == 2
    said = capsys.readouterr().err
    assert "A manifest is wanted, and this is an experiment." in said
    assert f"weakseg compare {experiment} --dry-run" in said


def test_help_and_validate_do_not_import_torch(good):
    code = (
        "import sys; from weakseg.cli import main\n"
        "try:\n main({args!r})\nexcept SystemExit as e: code = e.code or 0\nelse: code = 0\n"
        "heavy = [m for m in ('torch', 'lightning', 'sklearn', 'matplotlib') if m in sys.modules]\n"
        "print(heavy, file=sys.stderr); sys.exit(code)"
    )
    for args in (["--help"], ["compare", "--help"], ["validate", str(good / "labels.csv")]):
        done = run_python(code.format(args=args))
        assert done.returncode == 0, done.stderr
        assert done.stderr.strip().endswith("[]"), (args, done.stderr)


def test_a_fault_of_ours_exits_with_1_and_debug_shows_the_traceback(tmp_path, monkeypatch, capsys):
    from weakseg import config as module

    def broken(*_a, **_k):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(module, "load_config", broken)
    (tmp_path / "x.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert weakseg("compare", "x.yaml") == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError: oops" in err
    assert "--debug" in err
    with pytest.raises(ZeroDivisionError):
        weakseg("compare", "x.yaml", "--debug")


@pytest.mark.parametrize("fill", [torch.zeros, np.zeros])
def test_too_little_memory_is_no_fault_of_ours(fill, tmp_path, monkeypatch, capsys):
    from weakseg import config as module

    monkeypatch.setattr(module, "load_config", lambda *_a, **_k: fill(10**14))
    (tmp_path / "x.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert weakseg("compare", "x.yaml") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: There is not enough memory.\n  found: ")
    assert "llocat" in err
    assert "batch_size" in err


@pytest.mark.parametrize(
    ("e", "lacking"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (
            Exception("[ONNXRuntimeError] : 1 : FAIL : Exception during loading: std::bad_alloc"),
            True,
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOENT, "No such file or directory"), False),
        (RuntimeError("size mismatch for head.weight"), False),
        (KeyError("model"), False),
    ],
)
def test_what_lack_of_memory_is_told_by(e, lacking):
    assert lacks_memory(e) is lacking


def test_a_full_memory_makes_no_checkpoint_a_damaged_one(tmp_path, monkeypatch, capsys):
    """Whoever heeded "delete it" would lose a training."""

    def full(*_a, **_k):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    model = torch.nn.Linear(2, 1)
    training = Training(model, torch.optim.Adam(model.parameters()), None, None)
    (tmp_path / "last.pt").touch()
    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(torch.OutOfMemoryError) as told:
        training.resume(tmp_path / "last.pt", "key")
    capsys.readouterr()
    assert explain_failure(told.value) == 2
    err = capsys.readouterr().err
    assert f"where: {tmp_path / 'last.pt'}" in err
    assert "a damaged file may ask for far more than it holds" in err
