"""One training run, from a configuration to a saved artifact and a summary in words."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
from typing import Any

import numpy as np
import pyarrow as pa

from golem_ray import artifact, pipeline, storage
from golem_ray.cache import EmbeddingCache, describe
from golem_ray.config import TrainConfig
from golem_ray.data import Source, clip_name, open_source
from golem_ray.encoder_info import EncoderInfo, Recipe, check_sampling_rate, inspect_encoder
from golem_ray.errors import ConfigError, DataError, UserError
from golem_ray.presets import config_from_dict
from golem_ray.stages import LOG_MEL_SIZE, Resources

log = logging.getLogger(__name__)


def run(config: TrainConfig, *, sidecar: dict[str, Any] | None = None, allow_drift: bool = False) -> dict[str, str]:
    """Train and save; returns {"savedArtifactPath", "summary"}. Raises UserError, an old artifact untouched.

    With a sidecar, whose configuration `config` then is, the run must have the same versions, revisions and
    inputs, unless allow_drift.
    """
    if sidecar is not None:
        config = _pinned(config, sidecar)
    save_path = _place("save_path", config)
    artifact.check_writable(save_path)
    cache_root = _place("embedding_cache", config) if config.paths.embedding_cache else None
    encoder = inspect_encoder(config.model)
    check_sampling_rate(encoder, config.processing.target_sampling_rate)
    recipe = Recipe(
        encoder=encoder,
        precision=config.model.precision,
        max_seconds=config.processing.max_seconds,
        compiled=config.model.compile,
    )
    limit = config.processing.max_samples
    source = open_source(config.dataset, None if limit == "all" else limit)
    _check_classes(config, source)
    _check_labels(source, source.clips["label"].drop_null().to_numpy())

    num_trained = source.clips.num_rows
    source = _with_tested_clips(config, source)
    num_clips = source.clips.num_rows
    with pipeline.cluster(config.cluster, config.device, num_clips) as resources:
        log.info(
            "embedding %d clips of %s with %s: %d worker%s on %s",
            num_clips,
            config.dataset.name,
            encoder.name,
            resources.workers,
            "s" if resources.workers > 1 else "",
            "GPU" if resources.gpu else "CPU",
        )
        if resources.gpu and not encoder.exact_in_batches:
            log.info("%s (%s) is not exact in batches: one clip at a time", encoder.name, encoder.model_type)
        cache = _open_cache(cache_root, recipe, resources) if cache_root else None
        digests = None
        if sidecar is not None or (cache is not None and cache.files()):
            digests = pipeline.hash_clips(source, resources.workers)
        if sidecar is not None and digests is not None:
            _check_drift(sidecar, _provenance(source, num_trained, recipe, digests), resources.gpu, allow_drift)
        baseline = num_clips > num_trained
        embedded = pipeline.embed(
            source, recipe, resources, _max_bad(config, num_clips), baseline=baseline, cache=cache, digests=digests
        )
        bad = _bad_clips(config, source, num_trained, embedded.bad)
        good = np.array([row for row in range(num_clips) if row not in embedded.bad], dtype=np.int64)
        used, tested = good[good < num_trained], good[good >= num_trained]
        labels = source.clips["label"].to_numpy()
        if bad:
            _check_labels(source, labels[used].astype(np.int64))
        unseen = tested[~np.isin(embedded.digests[tested], embedded.digests[used])]
        head = pipeline.train(
            embedded.vectors[used],
            labels[used].astype(np.int64),
            len(source.labels),
            config,
            resources,
            _held_out(embedded, labels, used, unseen),
        )
    if not math.isfinite(head.metrics["final_loss"]):
        raise ConfigError(
            f"training.learning_rate: expected a rate at which training converges, found the loss to become "
            f"{head.metrics['final_loss']} with {config.training.learning_rate}; use a smaller one."
        )
    if baseline:
        counts = {"num_also_trained_on": len(tested) - len(unseen), "num_clips": len(unseen)}
        head.metrics["evaluation"] = {"split": config.evaluation.split, **counts, **head.metrics.get("evaluation", {})}
    summary = _summary(config, source, encoder, head, len(used), num_trained - len(used))
    document = {
        "summary": summary,
        **_provenance(source, num_trained, recipe, embedded.digests),
        **_results(config, source, encoder, head, labels[used].astype(np.int64), num_trained, bad),
        "gpu": resources.gpu,
    }
    artifact.save(save_path, head.weights, document)
    return {"savedArtifactPath": save_path, "summary": summary}


def _place(key: str, config: TrainConfig) -> str:
    """Where the output that paths.<key> names goes."""
    return storage.resolve(f"paths.{key}", getattr(config.paths, key), config.paths, pipeline.in_submitted_job())


def _open_cache(root: str, recipe: Recipe, resources: Resources) -> EmbeddingCache:
    described = describe(recipe, gpu=resources.gpu, threads=resources.threads)
    return EmbeddingCache(root, described, recipe.encoder.embedding_size, LOG_MEL_SIZE)


def _pinned(config: TrainConfig, sidecar: dict[str, Any]) -> TrainConfig:
    """The configuration with the Hub's commits that the sidecar records, where it names none of its own."""
    dataset, model, recorded = config.dataset, config.model, config_from_dict(sidecar["config"])
    if dataset.revision is None and dataset.name == recorded.dataset.name:
        dataset = dataclasses.replace(dataset, revision=sidecar["data"].get("revision"))
    if model.revision is None and model.feature_extractor_model == recorded.model.feature_extractor_model:
        model = dataclasses.replace(model, revision=sidecar["encoder"].get("revision"))
    return dataclasses.replace(config, dataset=dataset, model=model)


def _with_tested_clips(config: TrainConfig, source: Source) -> Source:
    """The source, followed by the clips of the split to test on, so that one pass embeds both.

    Their labels are numbered by the source's names; a class that it lacks gets a number beyond its last.
    """
    split = config.evaluation.split
    if split is None:
        return source
    revision = source.revision or config.dataset.revision
    try:
        tested = open_source(dataclasses.replace(config.dataset, split=split, revision=revision), None)
    except UserError as error:
        problem = str(error).removeprefix("dataset.split: ")
        raise type(error)(f"evaluation.split: for the split {split!r}, {problem}") from None
    names = list(source.labels) + [name for name in tested.labels if name not in source.labels]
    numbers = pa.array([names.index(name) for name in tested.labels], pa.int64())
    clips = tested.clips.set_column(tested.clips.schema.get_field_index("label"), "label", _taken(numbers, tested))
    joined = pa.concat_tables([source.clips, clips.select(source.clips.column_names)], promote_options="permissive")
    return dataclasses.replace(source, clips=joined.set_column(0, "id", pa.array(range(joined.num_rows), pa.int64())))


def _taken(numbers: pa.Array, tested: Source) -> pa.ChunkedArray:
    return pa.chunked_array([numbers.take(chunk) for chunk in tested.clips["label"].chunks], pa.int64())


def _held_out(
    embedded: pipeline.Embeddings, labels: np.ndarray, used: np.ndarray, unseen: np.ndarray
) -> pipeline.HeldOut | None:
    """What of the tested clips the head did not see in training."""
    if embedded.log_mel is None or not len(unseen):
        return None
    return pipeline.HeldOut(
        embeddings=embedded.vectors[unseen],
        labels=labels[unseen].astype(np.int64),
        log_mel=embedded.log_mel[unseen],
        trained_log_mel=embedded.log_mel[used],
    )


def _check_classes(config: TrainConfig, source: Source) -> None:
    wanted, found = config.model.classifier_output_classes, len(source.labels)
    if wanted not in ("auto", found):
        raise ConfigError(
            f"model.classifier_output_classes: expected {found}, the classes of {config.dataset.name}, got {wanted}; "
            "leave it at auto or choose another dataset."
        )


def _provenance(source: Source, num_trained: int, recipe: Recipe, digests: np.ndarray) -> dict[str, Any]:
    """What must be the same for the same bytes to come out, as the sidecar records it."""
    encoder = recipe.encoder
    labels = source.clips["label"].to_pylist()
    data = {"revision": source.revision, "sha256": _clips_sha256(labels[:num_trained], digests[:num_trained])}
    if len(labels) > num_trained:
        data["evaluation_sha256"] = _clips_sha256(labels[num_trained:], digests[num_trained:])
    return {
        "encoder": {
            "name": encoder.name,
            "revision": encoder.revision,
            "sha256": encoder.sha256,
            "model_type": encoder.model_type,
            "sampling_rate": encoder.sampling_rate,
            "layer": recipe.layer,
            "pooling": recipe.pooling,
            "precision": recipe.precision,
            "max_seconds": recipe.max_seconds,
            "compiled": recipe.compiled,
        },
        "data": data,
        "versions": artifact.library_versions(),
    }


def _clips_sha256(labels: list[int | None], digests: np.ndarray) -> str:
    total = hashlib.sha256()
    for label, digest in zip(labels, digests.tolist(), strict=True):
        total.update(f"{label} ".encode() + digest.ljust(32, b"\0"))
    return total.hexdigest()


def _results(
    config: TrainConfig,
    source: Source,
    encoder: EncoderInfo,
    head: pipeline.TrainedHead,
    labels: np.ndarray,
    num_trained: int,
    bad: list[dict[str, Any]],
) -> dict[str, Any]:
    """What came out, as the sidecar records it."""
    return {
        "labels": list(source.labels),
        "head": {"kind": "linear", "in_features": encoder.embedding_size, "out_features": len(source.labels)},
        "clips": {
            "total": num_trained,
            "used": len(labels),
            "bad": bad,
            "per_class": dict(zip(source.labels, _counts(source, labels), strict=True)),
        },
        "metrics": head.metrics,
        "device": head.worker["device"],
        "config": dataclasses.asdict(config),
    }


def _check_drift(sidecar: dict[str, Any], current: dict[str, Any], gpu: bool, allow_drift: bool) -> None:
    """Name what differs from the sidecar; ConfigError unless that is allowed."""
    if current["encoder"]["sha256"] is not None:
        del current["encoder"]["name"]  # a folder may lie elsewhere: its digest says what is in it
    differing = artifact.differences(sidecar, current)
    if gpu != sidecar.get("gpu"):
        differing.append(f"gpu: {sidecar.get('gpu')} then, {gpu} now")
    if not differing:
        return
    named = "; ".join(differing)
    if not allow_drift:
        raise ConfigError(
            f"the sidecar: expected its versions, revisions and inputs, found others ({named}); mend that, or pass "
            "--allow-drift to go on with other bytes."
        )
    log.warning("going on although the sidecar differs: %s", named)


def _max_bad(config: TrainConfig, num_clips: int) -> int:
    return math.floor(config.processing.max_bad_fraction * num_clips + 1e-9)  # 0.58 of 50 are 29


def _bad_clips(config: TrainConfig, source: Source, num_trained: int, bad: dict[int, str]) -> list[dict[str, Any]]:
    """The clips that cannot be used: [{"split", "id", "clip", "reason"}].

    Raises DataError if they are too many, of those to train on or of those to test on.
    """
    records = []
    for row in sorted(bad):
        tested = row >= num_trained
        number, path = row - num_trained * tested, source.clips["path"][row].as_py()
        split = config.evaluation.split if tested else config.dataset.split
        name = f"{split} {clip_name(number, path)}" if tested else clip_name(number, path)
        records.append({"split": split, "id": number, "clip": name, "reason": bad[row]})
    num_bad = sum(row < num_trained for row in bad)
    parts = [(records[:num_bad], num_trained), (records[num_bad:], source.clips.num_rows - num_trained)]
    for part, num_clips in parts:
        named = "; ".join(f"{record['clip']}: {record['reason']}" for record in part[: pipeline.MAX_NAMED_CLIPS])
        more = f"; and {len(part) - pipeline.MAX_NAMED_CLIPS} more" if len(part) > pipeline.MAX_NAMED_CLIPS else ""
        if len(part) > _max_bad(config, num_clips):
            raise DataError(
                f"processing.max_bad_fraction: expected at most {_max_bad(config, num_clips)} of {num_clips} clips to "
                f"be unusable, found {len(part)} or more ({named}{more}); mend or remove them, or allow a larger "
                "fraction."
            )
        if part:
            log.warning("clips that cannot be used, %d of %d: %s%s", len(part), num_clips, named, more)
    return records


def _counts(source: Source, labels: np.ndarray) -> list[int]:
    return np.bincount(labels, minlength=len(source.labels)).tolist()


def _check_labels(source: Source, labels: np.ndarray) -> None:
    """Say which classes have too few clips; DataError if there is nothing to tell apart."""
    counts = _counts(source, labels)
    present = [name for name, count in zip(source.labels, counts, strict=True) if count]
    if len(present) < 2:
        raise DataError(
            f"processing.max_samples: expected usable clips of at least two classes, found {len(present)} among "
            f"{source.clips.num_rows} clips ({', '.join(present) or 'none'}); take more, or mix their order."
        )
    if len(present) < len(counts):
        absent = [name for name, count in zip(source.labels, counts, strict=True) if not count]
        log.warning("%d of %d classes have no clip: %s", len(absent), len(counts), ", ".join(absent[:20]))


def _summary(
    config: TrainConfig, source: Source, encoder: EncoderInfo, head: pipeline.TrainedHead, used: int, skipped: int
) -> str:
    metrics = head.metrics
    classes = f"{len(source.labels)} classes"
    if metrics["num_classes_with_clips"] < len(source.labels):
        classes += f" ({metrics['num_classes_with_clips']} with clips)"
    lines = [
        f"Trained on {used} clips of {config.dataset.name} ({skipped} skipped) in {classes}, with "
        f"{encoder.name} on {head.worker['device']}. Final loss {metrics['final_loss']:.4f}, training accuracy "
        f"{metrics['training_accuracy']:.1%}; chance is {metrics['chance']:.1%}, always naming the largest class "
        f"{metrics['largest_class']:.1%}.",
        _cross_validation_line(config, metrics["cross_validation"]),
    ]
    if "evaluation" in metrics:
        lines.append(_evaluation_line(metrics["evaluation"]))
    return "\n".join(lines)


def _cross_validation_line(config: TrainConfig, scores: dict[str, Any] | None) -> str:
    if scores is None:
        reason = "it is turned off" if config.evaluation.repeats == 0 else "no class has two clips"
        return f"No cross-validated accuracy: {reason}."
    low, high = scores["interval_95"]
    line = (
        f"Cross-validated accuracy {scores['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}; "
        f"{scores['repeats']} x {scores['folds']} folds over {scores['num_clips']} clips)."
    )
    singles = scores["num_single_clip_classes"]
    if singles:
        line += f" {singles} class{'es' if singles > 1 else ''} with a single clip only trained."
    return line


def _evaluation_line(scores: dict[str, Any]) -> str:
    line = f"Accuracy on the {scores['num_clips']} clips of {scores['split']}"
    if scores["num_also_trained_on"]:
        line += f" that were not trained on ({scores['num_also_trained_on']} were)"
    if not scores["num_clips"]:
        return f"{line}: none, for want of clips."
    low, high = scores["interval_95"]
    other_low, other_high = scores["log_mel"]["interval_95"]
    return (
        f"{line} {scores['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}); the same head on log-mel statistics "
        f"{scores['log_mel']['accuracy']:.1%} ({other_low:.1%} to {other_high:.1%})."
    )
