import pytest

from golem_ray.config.presets import config_from_dict
from golem_ray.data.labels import check_streamed
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
