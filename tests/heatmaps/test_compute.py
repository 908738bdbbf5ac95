"""Which classes a heatmap explains."""

import pytest

from weakseg.data.cases import Labels
from weakseg.errors import ConfigError
from weakseg.heatmaps.explaining import target_classes

LABELS = Labels(("normal",), ("cyst", "lesion"))


def test_lesion_means_every_lesion_label_even_where_one_bears_the_name():
    assert target_classes("lesion", LABELS) == (1, 2)
    assert target_classes("cyst", LABELS) == (1,)
    assert target_classes("normal", LABELS) == (0,)


def test_an_unknown_class_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'cyst'"):
        target_classes("cyts", LABELS)
