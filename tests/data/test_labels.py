import logging

import numpy as np
import pyarrow as pa
import pytest

from golem_ray.config import TrainConfig
from golem_ray.config.presets import config_from_dict
from golem_ray.data.labels import check_classes, check_streamed, under_two_labels, written_alike
from golem_ray.data.table import Source
from golem_ray.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"head": {"kind": "logistic"}}, r"head\.kind: expected 'gradient' for more than .*got 'logistic'"),
        ({"head": {"patience": 3}}, r"head\.patience: expected none for more than cluster\.gather_limit .*got 3"),
        ({"model": {"layer": "auto"}}, r"model\.layer: expected one layer .*got 'auto'; .*fewer clips"),
    ],
)
def test_what_needs_all_rows_in_memory_is_refused(values, words):
    with pytest.raises(ConfigError, match=words):
        check_streamed(config_from_dict(values))
    check_streamed(config_from_dict({"head": {"hidden": [8], "standardize": True}, "training": {"batch_size": 4}}))


def test_labels_that_differ_by_case_or_by_the_form_of_a_number_are_named(caplog):
    labels = ("1", "1.0", "01", "2", "Anger", "anger", "fear", "nan", "inf", "Straße", "STRASSE", "-1", "10")
    assert written_alike(labels) == [["1", "1.0", "01"], ["Anger", "anger"], ["Straße", "STRASSE"]]
    with caplog.at_level(logging.WARNING):
        check_classes(TrainConfig(), Source(examples=pa.table({}), labels=("1", "01", "joy")))
        check_classes(TrainConfig(), Source(examples=pa.table({}), labels=("joy", "fear")))
    assert len(caplog.records) == 1
    assert "alone are classes of their own: '1' / '01'; write them alike" in caplog.text


def test_equal_files_under_different_labels_are_found():
    labels = np.array([0, 1, 0, 2, 2, np.nan, 1, 0, 1])
    digests = np.array(["x", "x", "y", "y", "z", "z", "z", "", ""], dtype="S32")
    assert np.flatnonzero(under_two_labels(labels, digests)).tolist() == [0, 1, 2, 3, 4, 6]
    assert not under_two_labels(np.array([0.0, 0, 1, 1]), np.array(["x", "x", "y", "y"], dtype="S32")).any()
