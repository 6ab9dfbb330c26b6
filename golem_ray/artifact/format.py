"""Checks an artifact's two files before they are used, and builds the head that they describe.

They may come from anybody: nothing in them is run, and every field that is used later is checked here. Does not know
where the files lie, nor whether they belong together: files.py does.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from golem_ray.config import ModelConfig
from golem_ray.config.presets import SIDECAR_FORMAT, split_sidecar
from golem_ray.errors import ConfigError
from golem_ray.heads.multi_label import MULTI_LABEL
from golem_ray.heads.reject import is_record
from golem_ray.metrics.several import FIGURES_OF_SEVERAL

if TYPE_CHECKING:
    from torch import Tensor, nn


def parse_sidecar(text: bytes, path: str) -> dict[str, Any]:
    """The sidecar as a dictionary. Raises ConfigError if the text is not a sidecar, or of an unknown format."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected the artifact's sidecar, found something that is not a JSON object.")
    if document.get("format") != SIDECAR_FORMAT:
        raise ConfigError(f"{path}: expected the artifact's sidecar, found other JSON (without its `format`).")
    split_sidecar(document)
    labels, weights, metrics, clips = (document.get(key) for key in ("labels", "weights", "metrics", "clips"))
    calibration = metrics.get("calibration") if isinstance(metrics, dict) else None
    problems = {
        "labels": not isinstance(labels, list)
        or not labels
        or not all(isinstance(name, str) for name in labels)
        or len(set(labels)) < len(labels),
        "head": not isinstance(document.get("head"), dict),
        "encoder": not _is_known_recipe(document["encoder"]),
        "weights.sha256": not isinstance(weights, dict) or not isinstance(weights.get("sha256"), str),
        "joined": "joined" in document and not _is_file(document["joined"]),
        "metrics": not isinstance(metrics, dict),
        "clips.per_class": not isinstance(clips, dict)
        or not isinstance(clips.get("per_class"), dict)
        or not _numbers(clips["per_class"], *clips["per_class"]),
        "clips.digests": isinstance(clips, dict) and not _is_packed(clips.get("digests")),
        "clips.groups": isinstance(clips, dict) and not _is_packed(clips.get("groups")),
        "clips.extra": isinstance(clips, dict) and not _are_counted(clips, document["config"].get("dataset")),
        "metrics.calibration": not _is_calibration(calibration, labels, document.get("target")),
        "metrics.reject": isinstance(metrics, dict) and not _is_reject(metrics.get("reject"), document.get("head")),
    }
    problems |= {f"metrics.{key}": wrong for key, wrong in _wrong_metrics(metrics, document.get("target")).items()}
    for key, wrong in problems.items():
        if wrong:
            raise ConfigError(f"{path}: expected {key} as this package writes it, found it missing or changed.")
    return document


def _is_known_recipe(encoder: dict[str, Any]) -> bool:
    """Whether this version can make embeddings as the sidecar says that they were made."""
    hints, seconds = get_type_hints(ModelConfig), encoder.get("max_seconds")
    return (
        encoder.get("precision", "float32") in get_args(hints["precision"])
        and (seconds is None or (_numbers(encoder, "max_seconds") and seconds >= 1))
        and _is_layer(encoder.get("layer", "last"))
        and encoder.get("pooling", "mean") in ("mean", "mean+std", "cls")
        and all(isinstance(encoder.get(key, False), bool) for key in ("trim_silence", "join_baseline"))
    )


def _is_file(record: object) -> bool:
    """Whether the value names a file that lies beside the sidecar, and its digest."""
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("file", "sha256")):
        return False
    return re.fullmatch(r"[^/\\]+\.npz", record["file"]) is not None


def _is_packed(digests: object) -> bool:
    """Whether the value could come from `pack_digests`."""
    if digests is None:
        return True
    try:
        return isinstance(digests, str) and len(base64.b64decode(digests, validate=True)) % 8 == 0
    except ValueError:
        return False


def _are_counted(clips: dict[str, Any], dataset: object) -> bool:
    """Whether the clips of each dataset beside the main one are counted, if any are."""
    counts = clips.get("extra")
    if counts is None:
        return True
    tables = dataset.get("extra") if isinstance(dataset, dict) else None
    return (
        isinstance(counts, list)
        and isinstance(tables, list)
        and len(counts) == len(tables)
        and all(isinstance(table, dict) for table in tables)
        and all(_numbers(each, "total", "used") for each in (clips, *counts))
    )


def _is_calibration(record: object, labels: object, target: object) -> bool:
    """Whether the value is the record that the target's `calibrate` gives of so many labels."""
    if target != MULTI_LABEL.name:
        if record is None:
            return True
        return isinstance(record, dict) and _numbers(record, "temperature", "num_clips") and record["temperature"] > 0
    number = len(labels) if isinstance(labels, list) else 0
    if not isinstance(record, dict) or not all(
        isinstance(record.get(key), list)
        and len(record[key]) == number
        and _numbers(dict(enumerate(record[key])), *range(number))
        for key in ("slopes", "intercepts", "thresholds", "least")
    ):
        return False
    return (
        all(0 < threshold < 1 for threshold in record["thresholds"])
        and isinstance(record.get("at_least_one"), bool)
        and _numbers(record, "num_clips")
    )


def _are_figures(figures: object) -> bool:
    """Whether the value has figures with their intervals, as metrics.several gives them."""
    return isinstance(figures, dict) and all(
        name in FIGURES_OF_SEVERAL and _numbers(each, "value") and _is_interval(each.get("interval_95"))
        for name, each in figures.items()
    )


def _is_interval(interval: object) -> bool:
    return isinstance(interval, list) and len(interval) == 2 and _numbers(dict(enumerate(interval)), 0, 1)


def _wrong_metrics(metrics: object, target: object) -> dict[str, bool]:
    """For each metric that messages and reports use: whether it is there in another form than this package writes."""
    if not isinstance(metrics, dict):
        return {}
    scores, history = metrics.get("cross_validation"), metrics.get("loss_history", [])
    counts = ("accuracy", "folds", "repeats", "num_clips")
    return {
        "training_accuracy": "training_accuracy" in metrics and not _numbers(metrics, "training_accuracy", "chance"),
        "cross_validation": scores is not None
        and not (
            isinstance(scores, dict)
            and _numbers(scores, *counts)
            and _is_interval(scores.get("interval_95"))
            and (target != MULTI_LABEL.name or _are_figures(scores.get("figures")))
        ),
        "choice": not _is_choice(metrics.get("choice")),
        "loss_history": not isinstance(history, list) or not all(_numbers(entry, "epoch", "loss") for entry in history),
    }


def _is_reject(record: object, head: object) -> bool:
    sizes = head if isinstance(head, dict) else {}
    return is_record(record, sizes.get("in_features"), sizes.get("out_features"))


def _is_choice(choice: object) -> bool:
    """Whether the value is a choice as it is recorded, if there was one."""
    if choice is None:
        return True
    rows = choice.get("candidates") if isinstance(choice, dict) else None
    return isinstance(rows, list) and all(
        _numbers(row, "accuracy", "log_loss")
        and _is_layer(row.get("layer"))
        and all(isinstance(row.get(key), str) for key in ("name", "pooling", "head"))
        for row in rows
    )


def _is_layer(layer: object) -> bool:
    return layer in ("last", "mean") or (type(layer) is int and layer >= 0)


def _numbers(record: object, *keys: object) -> bool:
    """Whether the record has finite numbers under these keys."""
    return isinstance(record, dict) and all(
        isinstance(record.get(key), int | float) and abs(record[key]) < math.inf for key in keys
    )


def _unpickle(weights: bytes, place: str) -> dict[str, Tensor]:
    import torch

    try:
        state = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
    except Exception as error:  # of unpickling, of a zip file that was cut, ...
        what = "code in it, which was not run" if "weights_only" in str(error).lower() else "something else"
        raise ConfigError(f"{place}: expected a head's weights as torch.save writes them, found {what}.") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigError(f"{place}: expected a head's weights by name, found a {type(state).__name__}.")
    return {str(name): value.float() for name, value in state.items()}


def build_head(weights: bytes, document: dict[str, Any], place: str) -> nn.Module:
    """The head in the bytes of a .pth file. Raises ConfigError unless it is the one that the sidecar describes."""
    from golem_ray.heads.modules import load_head

    state = _unpickle(weights, place)
    description, num_classes = document["head"], len(document["labels"])
    try:
        head = load_head(description, state)
    except ValueError as error:
        raise ConfigError(f"{place}: expected the head that its sidecar describes, found {error}.") from None
    if description["out_features"] != num_classes:
        raise ConfigError(
            f"{place}: expected a label for each of the {description['out_features']} classes of the "
            f"weights in the sidecar, found {num_classes}."
        )
    if not all(value.isfinite().all() for value in state.values()):
        raise ConfigError(f"{place}: expected finite weights, found some that are not.")
    return head
