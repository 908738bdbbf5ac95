"""Ctrl-C and being told to end: a word on what is safe, and nothing half written."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.data.helpers import noise, save, write_rows
from tests.tiny import weakseg, write_config, write_set
from weakseg import interruption
from weakseg.data import inspect_files
from weakseg.interruption import InterruptedCommand, deaf_to_interrupts, signals_raise
from weakseg.runs import cores
from weakseg.training import loop

pytestmark = pytest.mark.thorough

CONFIG = """
name: tiny
data: {{manifest: {manifest}, image_size: 48}}
classifier: {{arch: squeezenet1_1, epochs: 2, batch_size: 8, seeds: [0]}}
scores: {{bootstrap: 100}}
"""


@pytest.fixture(autouse=True)
def _in_the_foreground():
    """A job in the background ignores Ctrl-C, and so would these tests there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("args", "module", "said"),
    [
        (["report", "run"], "stages.report.make_report", "the runs are untouched"),
        (
            ["predict", "run", "in"],
            "predicting.predict.predict",
            "predictions.csv is not there yet",
        ),
        (["validate", "x.csv"], "importing.validate.validate_manifest", "nothing was written"),
        (["init", "folder"], "importing.arrange.init_folder", "with --force where they lie"),
        (["export", "run", "--method", "x"], "exporting.export.export", "the run is untouched"),
    ],
)
def test_every_command_says_what_is_safe(args, module, said, number, code, monkeypatch, capsys):
    monkeypatch.setattr(f"weakseg.{module}", lambda *_a, **_k: signal.raise_signal(number))
    monkeypatch.setattr("weakseg.runs.open_run", lambda _run: None)
    before = signal.getsignal(number)
    out = ["--out", "out"] if args[0] != "validate" else []
    assert weakseg(*args, *out) == code
    err = capsys.readouterr().err
    assert err.startswith("\ninterrupted: ")
    assert said in err
    assert "Traceback" not in err
    assert signal.getsignal(number) is before


def test_a_keyboard_interrupt_that_typer_swallows_is_told_too(monkeypatch, capsys):
    def stop(*_a, **_k):
        raise KeyboardInterrupt

    monkeypatch.setattr("weakseg.runs.open_run", lambda _run: None)
    monkeypatch.setattr("weakseg.stages.report.make_report", stop)
    assert weakseg("report", "run", "--out", "out") == 130
    assert "interrupted: every page and table" in capsys.readouterr().err


def test_a_training_that_is_interrupted_goes_on(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path, write_set(tmp_path / "data"), CONFIG)
    run = tmp_path / "run"
    told = ["train-classifier", config, "--run-dir", run, "--device", "cpu"]
    with monkeypatch.context() as m:
        written = loop.metrics_csv
        calls = []

        def interrupted(history):
            calls.append(len(history))
            if len(history) == 2:
                signal.raise_signal(signal.SIGINT)
            return written(history)

        m.setattr(loop, "metrics_csv", interrupted)
        assert weakseg(*told) == 130
    assert calls == [1, 2]
    err = capsys.readouterr().err
    assert "trainings from their last checkpoint" in err
    assert not list(run.rglob(".part-*"))
    assert weakseg(*told) == 0
    assert (run / "classifier/squeezenet1_1/seed-0/best.safetensors").exists()


def test_a_second_signal_waits_and_a_third_ends_at_once():
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from weakseg.interruption import *\n"
        "try:\n"
        "    with signals_raise():\n"
        "        try:\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "        finally:\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "            print('cleared away', flush=True)\n"
        "            signal.raise_signal(signal.SIGTERM)\n"
        "            print('never', flush=True)\n"
        "except InterruptedCommand:\n"
        "    print('never', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "cleared away\n"
    assert done.stderr == "stopping; once more ends at once\n"
    assert done.returncode == 143


def test_what_is_ignored_stays_ignored_and_other_threads_install_nothing():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with signals_raise():
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            with pytest.raises(InterruptedCommand):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
    held = signal.getsignal(signal.SIGINT)
    seen = []

    def elsewhere():
        with interruption.signals_raise():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [held]


# Processes that look at the files of a long manifest

# A thread that there is before, as of numpy's mathematics, hears signals that the main one blocks.
LONG = """
import sys
import threading
import time
from weakseg.data import inspect_files
from weakseg.cli import main

threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
inspect_files.MANY, inspect_files.MANY_AT_ONCE = 10, 4
main(["validate", sys.argv[1]])
"""


def processes_of(group):
    """Command lines of the living processes of a group."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(folder.name)
            if os.getpgid(pid) == group and (line := (folder / "cmdline").read_bytes()):
                found.append(line)  # those that have ended have none
    return found


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def looking(tmp_path):
    """`validate` of a long manifest in a group of its own, with its workers begun."""
    if not Path("/proc/self/cmdline").exists() or cores() == 1:
        pytest.skip("needs Linux and two cores")
    save(tmp_path / "a.png", noise(0, (700, 700)))
    rows = [["a.png", ["tumor", "normal"][k % 2]] for k in range(600)]
    manifest = write_rows(tmp_path, [["image", "label"], *rows])
    done = subprocess.Popen(
        [sys.executable, "-c", LONG, manifest],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until(lambda: sum(b"LokyProcess" in line for line in processes_of(done.pid)) > 1)
        yield done
    finally:
        with contextlib.suppress(OSError):
            os.killpg(done.pid, signal.SIGKILL)
        done.communicate()


@pytest.mark.parametrize("later", [0.0, 1.5])
def test_ctrl_c_while_processes_look_at_files_is_told_once_and_leaves_none(looking, later):
    time.sleep(later)  # they are starting, or at work
    os.killpg(looking.pid, signal.SIGINT)  # as a terminal sends it: to all
    out, err = looking.communicate(timeout=60)
    assert (out, looking.returncode) == ("", 130)
    assert err.strip() == f"interrupted: {interruption.SAFE['validate']}"
    until(lambda: not processes_of(looking.pid))


def test_processes_that_look_at_files_end_with_one_that_was_killed(looking):
    looking.kill()
    looking.wait()
    until(lambda: not processes_of(looking.pid))


def test_only_processes_begun_within_are_deaf():
    ask = [sys.executable, "-c", "import signal; print(signal.pthread_sigmask(0, []))"]

    def blocked():
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout

    with pytest.raises(InterruptedCommand), signals_raise(), deaf_to_interrupts():
        assert "SIGINT" in blocked()
        signal.raise_signal(signal.SIGINT)
        heard = "not yet"
    assert heard == "not yet"
    assert "SIGINT" not in blocked()


def test_what_another_thread_hears_waits_too():
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    passed = False
    with pytest.raises(InterruptedCommand), signals_raise(), deaf_to_interrupts():
        signal.pthread_kill(thread.ident, signal.SIGINT)
        time.sleep(0.1)
        passed = True
    done.set()
    thread.join()
    assert passed


def test_what_joblib_stumbles_over_when_work_is_given_up_is_not_told(monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))

    def fail(error):
        raise error

    def end(name, error):
        thread = threading.Thread(target=fail, args=(error,), name=name)
        thread.start()
        thread.join()

    with inspect_files._giving_up():
        end(inspect_files.KEEPER, KeyError(1))
        assert told == []
        end(inspect_files.KEEPER, OSError())
        end("another", KeyError(1))
    end(inspect_files.KEEPER, KeyError(1))
    assert told == [OSError, KeyError, KeyError]


def test_every_command_that_makes_no_run_has_words_of_its_own():
    import typer.main

    from weakseg.cli import app

    of_runs = {
        "train-classifier",
        "heatmap-segment",
        "train-segmenter",
        "retrain-filtered",
        "compare",
    }
    assert set(typer.main.get_command(app).commands) == of_runs | set(interruption.SAFE)
