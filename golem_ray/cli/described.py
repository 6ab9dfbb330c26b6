"""The description of the dataset that a preset names."""

from __future__ import annotations

from golem_ray.config import DescribeConfig, ExamplesConfig
from golem_ray.config.jobs import DescribedGroupsConfig
from golem_ray.config.presets import config_from_dict, read_preset, read_source, split_sidecar


def described(preset: str) -> DescribeConfig:
    """How the dataset of a preset, as `train` or `compare` takes one, is described: all of it. Raises ConfigError."""
    values, _ = split_sidecar(read_preset(read_source(preset), preset))
    config = config_from_dict({group: keys for group, keys in values.items() if group != "grid"})
    return DescribeConfig(
        dataset=config.dataset,
        processing=ExamplesConfig(max_bad_fraction=config.processing.max_bad_fraction),
        evaluation=DescribedGroupsConfig(group_column=config.evaluation.group_column),
        trained_on=config.processing.max_samples,
    )
