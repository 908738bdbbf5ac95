"""What `perform` says of a stage, and what becomes of an earlier network."""

from weakseg import layout
from weakseg.runs import Run
from weakseg.stages.base import Stage, perform


def trainer(folder, text, key):
    """A stage that trains a network: a file with a text."""

    def write(_):
        folder.mkdir(parents=True)
        (folder / layout.BEST).write_text(text)
        return {}

    return Stage("classifier/net/0", key, (folder,), write, what="classifier", network=folder)


def test_no_network_is_deleted_and_why_it_was_moved_is_true(tmp_path, capsys):
    run, folder = Run(tmp_path), tmp_path / "classifier/net/seed-0"
    perform(run, trainer(folder, "first", "a"))
    assert capsys.readouterr().err == ""
    for text in ("second", "third"):
        perform(run, trainer(folder, text, "a"), force=True)
        said = capsys.readouterr().err
        assert "is trained again, as --force asks" in said
        assert "other settings" not in said
    perform(run, trainer(folder, "fourth", "b"), force=True)
    said = capsys.readouterr().err
    assert "was made with other settings or data; it is kept in" in said
    assert "--force" not in said
    kept = {p.name: (p / layout.BEST).read_text() for p in tmp_path.glob("superseded/*")}
    assert kept == {"net-seed-0-a": "first", "net-seed-0-a-2": "second", "net-seed-0-a-3": "third"}
    assert (folder / layout.BEST).read_text() == "fourth"


def test_a_stage_that_is_told_of_elsewhere_is_not_told_of_twice(tmp_path, capsys):
    stage = Stage("s", "k", (), lambda _: {}, what="masks of agreed")
    perform(Run(tmp_path), stage)
    assert not perform(Run(tmp_path), stage, quiet=True)
    assert capsys.readouterr().err == ""
    assert not perform(Run(tmp_path), stage)
    assert capsys.readouterr().err == "masks of agreed: up to date\n"
