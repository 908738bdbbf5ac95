"""A small run by torch, and the same by another engine."""

import shutil

import pytest

from tests.tiny import weakseg, write_set

CONFIG = """
name: tiny
data: {{manifest: {manifest}, image_size: 64, split: {{val: 0.08, test: 0.25}}}}
classifier: {{arch: squeezenet1_1, epochs: 3, batch_size: 8, lr: 0.003}}
heatmap: {{layer: features.7, batch_size: 4}}
masks: {{rules: [fixed, otsu], gate: none}}
segmenters:
  net: {{arch: unet, epochs: 1, gate: 0.5}}
scores: {{bootstrap: 100}}
"""


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Two runs of one classifier: by torch, and by ONNX Runtime."""
    folder = tmp_path_factory.mktemp("engines")
    config = folder / "tiny.yaml"
    config.write_text(CONFIG.format(manifest=write_set(folder / "data")))
    common = ("--device", "cpu", "--run-dir")
    assert weakseg("train-classifier", config, *common, folder / "torch") == 0
    shutil.copytree(folder / "torch", folder / "ort")
    assert weakseg("heatmap-segment", config, *common, folder / "torch") == 0
    assert weakseg("train-segmenter", config, *common, folder / "torch") == 0
    engine = ("--set", "engine=onnxruntime")
    assert weakseg("heatmap-segment", config, *common, folder / "ort", *engine) == 0
    return folder
