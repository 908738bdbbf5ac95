"""Answers as people type them and terminals write them, and what no answer means."""

import pytest

from weakseg.errors import ConfigError
from weakseg.importing.answers import Answers, Question
from weakseg.importing.typed import meant

NAMES = ("labels.csv", "my tables/other set.csv", "a/b.csv")


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("labels.csv", "labels.csv"),
        (" labels.csv  ", "labels.csv"),
        ("./labels.csv", "labels.csv"),
        ("Labels.CSV", "labels.csv"),
        ('"a/b.csv"', "a/b.csv"),
        ("a\\b.csv", "a/b.csv"),
        (".\\a\\b.csv", "a/b.csv"),
        ("a//b.csv", "a/b.csv"),
        ("my\\ tables/other\\ set.csv ", "my tables/other set.csv"),
        ("'my tables\\other set.csv'", "my tables/other set.csv"),
        ("& 'my tables\\other set.csv'", "my tables/other set.csv"),
        ("{home}/set/a/b.csv", "a/b.csv"),
        ("~/set/a/b.csv", "a/b.csv"),
        ("'{home}/set/my tables/other set.csv' ", "my tables/other set.csv"),
        ("file://{home}/set/my%20tables/other%20set.csv", "my tables/other set.csv"),
        ("set/a/b.csv", "a/b.csv"),
        ("b.csv", None),
        ("~nobody-of-that-name/b.csv", None),
        ("../labels.csv", None),
        ("\0", None),
        ("", None),
        ("'", None),
    ],
)
def test_a_file_is_meant_however_its_path_is_written(tmp_path, monkeypatch, answer, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert meant(answer.format(home=tmp_path.as_posix()), NAMES, tmp_path / "set") == name


def test_what_is_written_so_itself_comes_first():
    assert meant("'a'", ("a", "'a'")) == "'a'"
    assert meant("a\\b", ("a/b", "a\\b", "ab")) == "a\\b"
    assert meant("NORMAL", ("normal", "Normal")) is None
    assert meant("a/b.csv", ("b.csv",)) is None


def test_an_answer_to_no_question_is_told_what_there_was_to_answer():
    answers = Answers({"heathy": "normal"})
    with pytest.raises(ConfigError, match="leave no question") as none:
        answers.refuse_unasked()
    assert none.value.fix == "leave the answer out"
    answers.ask(Question("healthy", "Which?", "normal"))
    with pytest.raises(ConfigError, match="Nothing was asked") as other:
        answers.refuse_unasked()
    assert other.value.fix == "did you mean 'healthy'?"


def test_a_question_of_anything_takes_the_answer_as_it_is():
    answers = Answers({"free": "'x'", "few": "'Normal' "})
    assert answers.ask(Question("free", "What?", "y")) == "'x'"
    assert answers.ask(Question("few", "Which?", "tumor", ("tumor", "normal"))) == "normal"
    assert answers.asked["few"] == "normal"
