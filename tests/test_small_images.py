"""Images so small that the default layer has no places: refused before anything is trained."""

from tests.tiny import CONFIG, weakseg, write_config, write_set


def test_a_map_of_one_place_is_refused_before_training_with_layers_that_have_more(tmp_path, capsys):
    text = CONFIG.replace("squeezenet1_1", "resnet18")
    config = write_config(tmp_path, write_set(tmp_path, patients=6, slices=1), text)
    run = tmp_path / "run"
    code = weakseg("compare", config, "--run-dir", run, "--set", "data.image_size=32")
    said = " ".join(capsys.readouterr().err.split())
    assert code == 2
    assert "layer4 of resnet18 gives a single value for images of 32 pixels" in said
    assert "that have: layer3 (2 x 2)" in said
    assert "layer2 (4 x 4)" in said
    assert not (run / "models").exists()
