"""The contract: keys with their defaults and checks. presets.py reads them; cli/flags.py makes flags of them."""

from golem_ray.config.checks import refuse_credentials
from golem_ray.config.extra import as_extra
from golem_ray.config.grid import GridConfig
from golem_ray.config.groups import DatasetConfig, ModelConfig, ProcessingConfig
from golem_ray.config.jobs import (
    DescribeConfig,
    EvaluateConfig,
    ExamplesConfig,
    GroupsConfig,
    PredictConfig,
    TrainConfig,
    left_open,
)
from golem_ray.config.learning import EvaluationConfig, HeadConfig, TrainingConfig
from golem_ray.config.nouns import NOUNS, Noun, noun_of
from golem_ray.config.places import ClusterConfig, DeviceConfig, PathsConfig

__all__ = [
    "NOUNS",
    "ClusterConfig",
    "DatasetConfig",
    "DescribeConfig",
    "DeviceConfig",
    "EvaluateConfig",
    "EvaluationConfig",
    "ExamplesConfig",
    "GridConfig",
    "GroupsConfig",
    "HeadConfig",
    "ModelConfig",
    "Noun",
    "PathsConfig",
    "PredictConfig",
    "ProcessingConfig",
    "TrainConfig",
    "TrainingConfig",
    "as_extra",
    "left_open",
    "noun_of",
    "refuse_credentials",
]
