"""Nothing that is printed fails, whatever the encoding of the terminal or the pipe."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.data.helpers import good_rows, write_rows
from tests.tiny import weakseg
from weakseg.progress import each_once, print_anywhere, progress, say

ENCODINGS = ["cp1252", "ascii", "cp437", "latin-1", "shift_jis", "koi8-r", "utf-8", "utf-16"]


class Stream(io.TextIOWrapper):
    """A pipe or, where asked for, a terminal of some encoding; strict, as Python's own."""

    def __init__(self, encoding: str, terminal: bool = False) -> None:
        self.raw_bytes = io.BytesIO()
        self.terminal = terminal
        super().__init__(self.raw_bytes, encoding=encoding, errors="strict", write_through=True)

    def isatty(self) -> bool:
        return self.terminal

    def text(self) -> str:
        return self.raw_bytes.getvalue().decode(self.encoding)


@pytest.fixture
def streams(monkeypatch):
    def both(encoding: str, terminal: bool = False) -> tuple[Stream, Stream]:
        out, err = Stream(encoding, terminal), Stream(encoding, terminal)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        return out, err

    return both


@pytest.fixture
def faulty(tmp_path):
    rows = good_rows(tmp_path)
    rows[1][0], rows[2][1], rows[3][3] = "images/漢字 é 😀.png", "Größe ≥ 5", "ﬁ→\u202e"
    return write_rows(tmp_path, rows)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_validate_prints_on_any_encoding(faulty, streams, encoding):
    out, err = streams(encoding)
    assert weakseg("validate", faulty) == 2
    text = out.text()
    assert "image-missing: 1 error" in text
    arrow = "→" if encoding in ("utf-8", "utf-16", "shift_jis") else "->"
    assert arrow in text
    assert ("漢字" in text) == (encoding in ("utf-8", "utf-16", "shift_jis"))
    if encoding in ("ascii", "cp1252"):
        assert "images/\\u6f22\\u5b57" in text
    assert "weakseg failed" not in err.text()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_json_is_json_on_any_encoding(faulty, streams, encoding):
    out, _ = streams(encoding)
    assert weakseg("validate", faulty, "--json") == 2
    assert any(p["file"] == "images/漢字 é 😀.png" for p in json.loads(out.text()))


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize("name", ["漢字→.csv", "\udcff\udcfe.csv"], ids=["letters", "no text"])
def test_errors_that_name_any_file_are_printed(tmp_path, streams, encoding, name):
    _, err = streams(encoding)
    assert weakseg("train-classifier", tmp_path / name) == 2
    assert "error: The experiment file does not exist" in err.text()
    assert "weakseg failed" not in err.text()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize("terminal", [True, False])
def test_progress_of_anything_is_shown(streams, encoding, terminal):
    _, err = streams(encoding, terminal)
    print_anywhere()
    with progress("[/x] → 漢字 [red]", 2) as advance:
        advance(note="≥ 0.5 [/y]")
        advance()
    say("×→…")
    text = err.text()
    assert ("×→…" if encoding == "utf-8" else "x->..." if encoding == "ascii" else "×->…") in text
    if terminal:
        assert "[/x]" in text
        assert "[red]" in text


def test_the_time_left_is_reckoned_from_steps_of_this_command(streams, monkeypatch):
    """A training that goes on after 90 of 100 steps took no time for those."""
    _, err = streams("utf-8", terminal=False)
    at = [0.0]
    monkeypatch.setattr("weakseg.progress.time", SimpleNamespace(monotonic=lambda: at[0]))
    with progress("training", 100, done=90) as advance:
        for _ in range(2):
            at[0] += 30
            advance()
    assert err.text().splitlines() == [
        "training: 91/100, 4:30 left",
        "training: 92/100, 4:00 left",
    ]


def test_what_a_loop_does_before_its_first_step_is_no_part_of_the_time_left(streams, monkeypatch):
    _, err = streams("utf-8", terminal=False)
    at = [0.0]
    monkeypatch.setattr("weakseg.progress.time", SimpleNamespace(monotonic=lambda: at[0]))
    with progress("heatmaps", 1000) as advance:
        for seconds, steps in ((25, 1), (30, 60), (30, 60)):
            at[0] += seconds
            advance(steps)
    assert err.text().splitlines() == [
        "heatmaps: 1/1000",
        "heatmaps: 61/1000, 7:50 left",
        "heatmaps: 121/1000, 7:20 left",
    ]


@pytest.mark.parametrize("columns", [60, 80])
def test_a_long_note_leaves_the_bar_its_room(streams, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    _, err = streams("utf-8", terminal=True)
    with progress("segmenter unet, seed 0", 640) as advance:
        advance(320, note="epoch 12: loss 4.983, val_dice 0.164, val_false_alarms 1.000")
    shown = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in err.text().splitlines()]
    bar = next(line for line in reversed(shown) if "segmenter" in line)
    assert bar.startswith("segmenter unet, seed 0 ━━━")
    assert "320/640" in bar
    assert any(line.startswith("epoch 12: loss 4.983, val_dice 0.164") for line in shown)


def test_help_is_printed_in_ascii(streams):
    out, _ = streams("ascii")
    assert weakseg("--help") == 0
    assert "validate" in out.text()


def test_streams_that_cannot_be_set_are_left_alone(monkeypatch):
    closed = Stream("ascii")
    closed.close()
    for stream in (io.StringIO(), None, closed):
        monkeypatch.setattr(sys, "stdout", stream)
        print_anywhere()
        assert sys.stdout is stream


def test_a_process_of_a_windows_pipe(faulty):
    setting = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "weakseg", "validate", str(faulty)],
        env=setting,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert b"The file does not exist" in done.stdout
    assert b"Traceback" not in done.stderr


def test_a_message_is_said_once_where_that_is_asked_for(capsys):
    @each_once()
    def twice():
        for message in ("a", "b", "a"):
            say(message)

    twice()
    twice()
    say("a")
    say("a")
    assert capsys.readouterr().err.split() == ["a", "b", "a", "b", "a", "a"]
