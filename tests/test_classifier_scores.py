"""Scores of classifiers: made again when their intervals are others, and nothing else with them."""

from types import SimpleNamespace

import pandas as pd
import pytest

from weakseg import layout
from weakseg.config import parse_config
from weakseg.current import is_current
from weakseg.data.cases import Labels
from weakseg.errors import RunError
from weakseg.methods import classifiers
from weakseg.report.intact import check_outputs
from weakseg.runs import Run, read_json, write_text
from weakseg.stages import classifier_scores, train_classifier
from weakseg.stages.base import Stage, disown, perform

ARCH = "squeezenet1_1"


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Twelve patients, half of them tested; a network that is right of most of them."""
    monkeypatch.setattr(classifiers, "classifier_key", lambda *_: "key")
    monkeypatch.setattr(train_classifier, "of_predictions", lambda _: None)
    cases = [
        SimpleNamespace(id=f"c{i}", patient=f"p{i}", label=label, split=split, image=None)
        for i in range(12)
        for label in [("normal", "tumor")[i % 2]]
        for split in [("val", "test")[i // 6]]
    ]
    of = {s: [i for i, c in enumerate(cases) if c.split == s] for s in ("val", "test")}
    listed = SimpleNamespace(
        cases=cases, labels=Labels(("normal",), ("tumor",)), indices=of.__getitem__
    )
    run = Run(tmp_path)
    told = {"best_epoch": 1, "best_because": "x"}
    perform(run, Stage(layout.classifier_stage(ARCH, 0), "key", (), lambda _: told))

    def experiment(**scores):
        tree = {"data": {"manifest": "x.csv"}, "classifier": {"arch": ARCH}, "scores": scores}
        return SimpleNamespace(
            run=run, config=parse_config(tree), cases=listed, has_classifier=True
        )

    return experiment


def predicted(prepared):
    """Perform the predictions of a seed, whose network is not asked."""
    stage = train_classifier.predictions_of(prepared, 0)
    rows = {"label": [c.label for c in prepared.cases.cases]}
    rows |= {
        k: [getattr(c, f) for c in prepared.cases.cases]
        for k, f in (("case", "id"), ("patient", "patient"), ("split", "split"))
    }
    p = [0.2, 0.9, 0.4, 0.3, 0.1, 0.8, 0.3, 0.7, 0.6, 0.5, 0.2, 0.9]
    rows |= {"predicted": ["tumor" if q > 0.5 else "normal" for q in p], "lesion_probability": p}
    rows |= {"p(normal)": [1 - q for q in p], "p(tumor)": p}

    def write(_):
        write_text(stage.outputs[0], pd.DataFrame(rows).to_csv(index=False))
        return {}

    perform(prepared.run, Stage(stage.name, stage.key, stage.outputs, write, inputs=stage.inputs))


def scored(prepared):
    """Whether the scores were made, and those of the test images."""
    made = perform(prepared.run, classifier_scores.classifier_scores_of(prepared, 0))
    folder = layout.seed_folder(prepared.run.folder, ARCH, 0)
    return made, read_json(folder / layout.CLASSIFIER_SCORES)["test"]


def test_other_intervals_are_made_of_the_same_predictions(prepared, capsys):
    few = prepared(bootstrap=100)
    predicted(few)
    made, first = scored(few)
    assert made
    assert first["auc_lesion"]["value"] == pytest.approx(8 / 9)
    assert "test AUC 0.889 [" in capsys.readouterr().err
    assert scored(few) == (False, first)
    name, before = layout.predictions_stage(ARCH, 0), few.run.record["stages"]
    more = prepared(bootstrap=2000)
    made, second = scored(more)
    assert made
    assert second != first
    assert all(second[k]["value"] == first[k]["value"] for k in first)
    assert few.run.record["stages"][name] == before[name]
    assert is_current(more.run, name, classifiers.predictions_key(more, 0))
    again = SimpleNamespace(**{**vars(more), "config": more.config.model_copy(update={"seed": 5})})
    assert scored(again)[0]
    assert few.run.record["stages"][name] == before[name]


def written(path, text):
    def write(_):
        write_text(path, text)
        return {}

    return write


def test_of_earlier_runs_only_the_scores_are_made(prepared):
    """Their predictions list the scores as well, and masks were made of both."""
    now = prepared(bootstrap=100)
    run, folder = now.run, layout.seed_folder(now.run.folder, ARCH, 0)
    predicted(now)
    name, key = layout.predictions_stage(ARCH, 0), classifiers.predictions_key(now, 0)
    both = (folder / layout.PREDICTIONS, folder / layout.CLASSIFIER_SCORES)
    perform(run, Stage(name, key, both, written(both[1], "{}")), force=True)
    other = Stage("other", "k", (run.folder / "y",), written(run.folder / "y", "y"))
    masks = written(run.folder / "x", "x")
    read = Stage("segment", "k", (run.folder / "x",), masks, inputs=(name, "other"))
    perform(run, other)
    perform(run, read)
    for _ in range(2):  # and once more, where nothing is to be done
        disown(run, name, both[1])
        assert is_current(run, name, key)
        assert is_current(run, "segment", "k")
        assert is_current(run, "other", "k")
    assert scored(now)[0]
    assert is_current(run, name, key)
    assert is_current(run, "segment", "k")
    # Other predictions are told still.
    both[0].write_text("case\n")
    assert not is_current(run, name, key)
    predicted(now)
    assert is_current(run, "segment", "k")
    perform(run, Stage(name, key, both[:1], written(both[0], "case,x\n")), force=True)
    assert not is_current(run, "segment", "k")


def test_whatever_command_scores_masks_scores_classifiers_by_the_same_settings(prepared):
    few, more = prepared(bootstrap=100), prepared(bootstrap=200)
    classifier_scores.score_classifiers(few)  # nothing is predicted yet
    stage = layout.classifier_scores_stage(ARCH, 0)
    assert stage not in few.run.record["stages"]
    predicted(few)
    for now in (few, more):
        classifier_scores.score_classifiers(now)
        assert is_current(now.run, stage, classifiers.classifier_scores_key(now, 0))
    assert not is_current(few.run, stage, classifiers.classifier_scores_key(few, 0))


def test_a_lost_list_is_left_to_who_looks_for_it(prepared):
    now = prepared()
    run = now.run
    disown(run, "nobody", run.folder / "x")
    predicted(now)
    name = layout.predictions_stage(ARCH, 0)
    layout.outputs_file(run.folder, name).write_text("{")
    before = run.record
    disown(run, name, layout.seed_folder(run.folder, ARCH, 0) / layout.PREDICTIONS)
    assert run.record == before


def test_a_report_reads_no_scores_that_somebody_has_edited(prepared):
    few = prepared(bootstrap=100)
    predicted(few)
    scored(few)
    record = few.run.record
    check_outputs(few.run.folder, few.config, record)
    path = layout.seed_folder(few.run.folder, ARCH, 0) / layout.CLASSIFIER_SCORES
    path.write_text(path.read_text().replace("0.88", "0.98"))
    with pytest.raises(RunError, match="not what its stage wrote"):
        check_outputs(few.run.folder, few.config, record)
