"""The help of every command, experiments by name, and what the built package holds."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from operator import attrgetter
from pathlib import Path

import pytest
import typer.main
import yaml
from pydantic_core import to_jsonable_python

from tests.data.helpers import write_rows
from tests.tiny import CONFIG, weakseg
from weakseg.cli import app
from weakseg.config import Config, load_config
from weakseg.config.reference import all_keys, keys_below
from weakseg.errors import ConfigError
from weakseg.masks.rules import RULES
from weakseg.packaged import config_names, find_config

ROOT = Path(__file__).parents[1]


def commands(command, path=()):
    """Every command and group, with the words that lead to it."""
    yield path, command
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from commands(inner, (*path, name))


ALL = dict(commands(typer.main.get_command(app)))


def parse(words):
    """Take a line as the command line does, without running what it names."""
    group, context = typer.main.get_command(app), None
    name, rest = words[0], list(words[1:])
    assert name == "weakseg"
    while True:
        context = group.make_context(name, rest, parent=context)
        if not hasattr(group, "commands"):
            return context
        rest = [*context._protected_args, *context.args]
        name, group, rest = group.resolve_command(context, rest)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_help_ends_with_an_example_that_can_be_typed(path, capsys):
    assert weakseg(*path, "--help") == 0
    said = capsys.readouterr().out
    head, _, example = said.rpartition("Example:\n")
    assert head, said
    lines = [line.strip() for line in example.strip().splitlines()]
    assert lines
    for line in lines:
        words = shlex.split(line.partition(">")[0])
        context = parse(words)
        if not hasattr(ALL[path], "commands"):
            assert words[1 : 1 + len(path)] == list(path)
            assert context.command.name == path[-1]


def test_a_line_that_cannot_be_typed_does_not_parse():
    with pytest.raises(Exception, match="No such option"):
        parse(["weakseg", "compare", "quickstart", "--colour", "red"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("import", "nope"), "No such command 'nope'; there are bmad, brats"),
        (("config", "nope"), "there are list, show, keys."),
        (("nope",), "there are init, validate, train-classifier"),
        (("compar",), "Did you mean 'compare'"),
    ],
)
def test_an_unknown_command_is_told_which_there_are(given, says, capsys):
    assert weakseg(*given) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert says in err
    assert ("there are" in err) != ("Did you mean" in err)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_names_of_experiments(shell):
    words = "weakseg compare quick"
    told = {
        "_WEAKSEG_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COMP_WORDS": words,
        "COMP_CWORD": "2",
    }
    code = (
        "import sys; sys.argv[0] = 'weakseg'; from weakseg.cli import app; app(prog_name='weakseg')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "quickstart" in done.stdout, done.stderr


def test_the_list_names_every_experiment_of_the_checkout(capsys):
    names = sorted(p.stem for p in (ROOT / "configs").glob("*.yaml"))
    assert config_names() == names
    assert weakseg("config", "list") == 0
    told = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert list(told) == names
    assert told["busi"].startswith("Breast ultrasound (Al-Dhabyani et al. 2020)")


def test_show_prints_the_file_to_the_letter(capsys):
    assert weakseg("config", "show", "quickstart") == 0
    assert capsys.readouterr().out == (ROOT / "configs/quickstart.yaml").read_text()


def test_an_experiment_by_name_is_the_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = load_config(find_config(Path("quickstart")))
    assert found == load_config(ROOT / "configs/quickstart.yaml")


def test_a_file_of_that_name_wins_and_that_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("quickstart").write_text("name: mine\n")
    assert load_config(find_config(Path("quickstart"))).name == "mine"
    assert "the file of this folder is taken" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("quickstrat", "did you mean quickstart"),
        ("lgg", "lgg-flair"),
        ("zzz", "one of ablation-busi"),
        ("configs/quickstart.yaml", "write quickstart instead"),
        ("quickstart.yml", "write quickstart instead"),
        ("there/is/none.yaml", "check the path"),
    ],
)
def test_an_unknown_experiment_lists_those_that_are_near(given, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as e:
        find_config(Path(given))
    assert said in str(e.value)


def test_data_names_the_manifest_whatever_its_name_holds(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "it's: a # [set]"
    folder.mkdir()
    manifest = write_rows(folder, [["image", "label"]])
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(CONFIG.format(manifest="elsewhere.csv"))
    assert weakseg("compare", "mine.yaml", "--data", manifest) == 2
    said = capsys.readouterr().err
    assert str(manifest) in said
    assert "elsewhere" not in said


def test_a_manifest_beside_the_experiment_is_the_one_that_it_means(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/e.yaml").write_text("data: {manifest: labels.csv}\n")
    assert load_config(Path("set/e.yaml")).data.manifest == "labels.csv"
    (tmp_path / "set/labels.csv").write_text("image,label\n")
    assert load_config(Path("set/e.yaml")).data.manifest == str(Path("set/labels.csv"))
    given = load_config(Path("set/e.yaml"), ["data.manifest=labels.csv"])
    assert given.data.manifest == "labels.csv"
    (tmp_path / "set/e.yaml").write_text("data: {manifest: phantom}\n")
    (tmp_path / "set/phantom").write_text("")
    assert load_config(Path("set/e.yaml")).data.manifest == "phantom"


def leaves(tree, prefix=""):
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")


def test_the_keys_are_those_of_a_whole_experiment():
    names = {k.name for k in all_keys()}
    tree = Config.model_validate({"filtered": {}}).model_dump()
    named = {p for p in leaves(tree) if not p.startswith("filtered.rule.")}  # one of several kinds
    assert named <= names
    assert "segmenters.NAME.arch" in names
    for rule, model in RULES.items():
        for field in model.model_fields:
            assert any(n.endswith(f".rules[{rule}].{field}") for n in names), (rule, field)


def test_a_key_says_what_it_holds_its_default_and_what_it_means(capsys):
    key = next(k for k in all_keys() if k.name == "data.image_size")
    assert key.holds == "whole number ≥ 32, ≤ 2048"
    assert key.default == "128"
    assert key.told == "longest side in pixels that the network sees"
    gate = next(k for k in all_keys() if k.name == "masks.gate")
    assert gate.holds == "number ≥ 0, ≤ 1 | none | validation"
    assert weakseg("config", "keys", "data.split") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "data.split.val: number > 0, < 1  (default: 0.15)" in lines
    assert not any(line.startswith("classifier") for line in lines)


def test_the_json_schema_is_of_all_keys(capsys):
    assert weakseg("config", "keys", "--json-schema") == 0
    assert "properties" in json.loads(capsys.readouterr().out)
    assert weakseg("config", "keys", "data.split", "--json-schema") == 2
    assert "leave one of them away" in capsys.readouterr().err


def test_a_default_that_is_printed_is_the_one_that_counts():
    default = Config()  # a dump leaves out what changes nothing
    for key in all_keys():
        absent = key.name.startswith(
            ("filtered", "data.split.leave_out.", "heatmap.climb.")
        )  # sections that are none
        if key.section or "NAME" in key.name or "[" in key.name or absent:
            continue
        held = attrgetter(key.name)(default)
        assert yaml.safe_load(key.default) == to_jsonable_python(held), key.name


def test_an_unknown_key_lists_those_that_are_near():
    with pytest.raises(ConfigError, match=r"did you mean .*classifier\.epochs"):
        keys_below("classifier.epoch")
    with pytest.raises(ConfigError, match=r"data\.mask_rule"):
        keys_below("mask_rule")


def test_the_schema_knows_every_key_and_refuses_others(capsys):
    assert weakseg("config", "keys", "--json-schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == set(Config.model_fields)
    assert schema["additionalProperties"] is False


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built package; a skip where it cannot be built."""
    if shutil.which("uv") is None:
        pytest.skip("no uv: the package cannot be built")
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        ["uv", "build", "--wheel", "-q", "--out-dir", out, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_the_package_holds_every_experiment_and_nothing_large(wheel):
    with zipfile.ZipFile(wheel) as z:
        names = z.namelist()
        for path in (ROOT / "configs").glob("*.yaml"):
            assert z.read(f"weakseg/configs/{path.name}") == path.read_bytes()
    assert not [n for n in names if n.startswith(("configs/", "tests/", "reports/", "docs/"))]
    assert wheel.stat().st_size < 2_000_000


def test_the_package_knows_its_experiments_without_the_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as z:
        z.extractall(tmp_path / "site")

    def run(*words):
        code = "import sys, weakseg.cli as c; print(c.__file__, file=sys.stderr); c.main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr.startswith(str(tmp_path / "site"))
        return done.stdout

    assert [line.split()[0] for line in run("config", "list").splitlines()] == config_names()
    assert run("config", "show", "volumes") == (ROOT / "configs/volumes.yaml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_a_fresh_environment_runs_an_experiment_by_name(wheel, tmp_path, version):
    """With nothing but the wheel and what it asks for."""
    python = tmp_path / "env/bin/python"
    made = subprocess.run(["uv", "venv", "-q", "--python", version, tmp_path / "env"], check=False)
    if made.returncode:
        pytest.skip(f"no Python {version}")
    subprocess.run(["uv", "pip", "install", "-q", "--python", python, wheel], check=True)
    short = [
        "--set",
        "classifier.epochs=1",
        "--set",
        "segmenters={}",
        "--set",
        "data.image_size=64",
    ]
    short += ["--set", "equivalence.segmenter=null", "--set", "scores.bootstrap=100"]
    done = subprocess.run(
        [python.with_name("weakseg"), "compare", "quickstart", *short],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/quickstart/report/index.html").exists()


def test_a_folder_is_no_experiment_and_the_file_in_it_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "quickstart"):
        Path(name).mkdir()
        (Path(name) / "experiment.yaml").write_text("name: mine\n")
    assert weakseg("compare", "mine", "--dry-run") == 2
    assert f"write {Path('mine/experiment.yaml')}" in capsys.readouterr().err
    assert load_config(find_config(Path("quickstart"))).name == "quickstart"
    assert "not the folder of that name" in capsys.readouterr().err


def test_a_manifest_is_no_experiment_and_one_that_lacks_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("labels.csv").write_text("image,label\n")
    assert weakseg("compare", "labels.csv") == 2
    assert "weakseg compare own-images --data labels.csv" in capsys.readouterr().err
    Path("labels.csv").unlink()
    assert weakseg("compare", "own-images", "--dry-run") == 2
    said = capsys.readouterr().err
    assert "data.manifest: labels.csv" in said
    assert "name yours: --data CSV" in said
