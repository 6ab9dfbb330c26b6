"""One training run, from a configuration to a saved artifact and its report."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from golem_ray import artifact, cluster, storage
from golem_ray.config import TrainConfig
from golem_ray.config.presets import config_from_dict
from golem_ray.data import open_source
from golem_ray.data.groups import kept_together
from golem_ray.data.labels import check_classes, check_labels, check_streamed
from golem_ray.data.split import Division, divide
from golem_ray.data.unusable import allowed, check_unusable
from golem_ray.devices import Resources
from golem_ray.embedding import run_folder
from golem_ray.embedding.cache import EmbeddingCache, describe
from golem_ray.embedding.embeddings import Embeddings
from golem_ray.embedding.recipe import Recipe, by_layer
from golem_ray.errors import ConfigError
from golem_ray.heads.training_set import TrainingSet
from golem_ray.jobs import outcome as record
from golem_ray.jobs.engines import announce, open_cache
from golem_ray.jobs.outcome import Clips, Run
from golem_ray.jobs.training_data import from_gathered, from_storage
from golem_ray.progress import Stopwatch
from golem_ray.speech.inspect import check_sampling_rate, recipe_for

log = logging.getLogger(__name__)


def run(config: TrainConfig, *, sidecar: dict[str, Any] | None = None, allow_drift: bool = False) -> dict[str, str]:
    """Train and save; returns {"savedArtifactPath", "summary"}. Raises UserError, an old artifact untouched.

    With a sidecar, whose configuration `config` then is, the run must have the same versions, revisions and
    inputs, unless allow_drift.
    """
    begun = None
    if config.paths.run_dir is not None:
        begun = run_folder.recorded(_place("run_dir", config), "paths.run_dir")
    for document in (sidecar, begun):
        if document is not None:
            config = _pinned(config, document)
    save_path = _place("save_path", config)
    report_path = _place("report_path", config) if config.paths.report_path else artifact.report_path(save_path)
    artifact.check_writable(save_path)
    artifact.check_report("paths.report_path", report_path)
    recipe = _recipe(config)
    clock = Stopwatch()
    division = _divided(config)
    _check_size(config, len(division.tested))
    clock.lap("listing")
    outputs = _shared_outputs(config, save_path)
    with cluster.joined(config.cluster, config.device, len(division.tested), outputs=outputs) as resources:
        clock.lap("joining the cluster")
        announce(config.dataset.name, len(division.tested), recipe.encoder, resources)
        cache = _cache(config, division, recipe, resources)
        embedded = _embed(config, division, recipe, resources, cache, sidecar, allow_drift, clock)
        clips = _clips(config, division, embedded)
        assembly = cluster.put(_assembly(division, embedded, clips, recipe, cache))
        digests, audio_seconds = embedded.digests, embedded.seconds
        del embedded  # its vectors are in the object store now
        head, worker = cluster.train(assembly, config, resources)
        clock.lap("training")
    if not math.isfinite(head.metrics["final_loss"]):
        raise ConfigError(
            f"training.learning_rate: expected a rate at which training converges, found the loss to become "
            f"{head.metrics['final_loss']} with {config.training.learning_rate}; use a smaller one."
        )
    if head.layer is not None:
        recipe = dataclasses.replace(recipe, layer=head.layer)
    done = Run(
        config=config,
        division=division,
        recipe=recipe,
        digests=digests,
        audio_seconds=audio_seconds,
        clips=clips,
        head=head,
        device=worker["device"],
        gpu=resources.gpu,
        timings=clock.seconds,
    )
    document = record.sidecar(done)
    artifact.save(save_path, head.weights, document)
    artifact.save_report(report_path, record.report(done, document))
    return {"savedArtifactPath": save_path, "summary": document["summary"]}


def _place(key: str, config: TrainConfig) -> str:
    """Where the output that paths.<key> names goes."""
    return storage.resolve(f"paths.{key}", getattr(config.paths, key), config.paths, storage.in_submitted_job())


def _pinned(config: TrainConfig, sidecar: dict[str, Any]) -> TrainConfig:
    """The configuration with the Hub's commits that a sidecar or a run.json records, where it names none of its own."""
    dataset, model, recorded = config.dataset, config.model, config_from_dict(sidecar["config"])
    if dataset.revision is None and dataset.name == recorded.dataset.name:
        dataset = dataclasses.replace(dataset, revision=sidecar["data"].get("revision"))
    if model.revision is None and model.feature_extractor_model == recorded.model.feature_extractor_model:
        model = dataclasses.replace(model, revision=sidecar["encoder"].get("revision"))
    return dataclasses.replace(config, dataset=dataset, model=model)


def _recipe(config: TrainConfig) -> Recipe:
    """How embeddings are made. Raises ConfigError if the encoder cannot be had, or is of another rate."""
    recipe = recipe_for(config.model, config.processing.max_seconds)
    check_sampling_rate(recipe.encoder, config.processing.target_sampling_rate)
    return recipe


def _divided(config: TrainConfig) -> Division:
    """The configured clips, to train on and to test on. Raises UserError if they cannot be had or will not do."""
    limit = config.processing.max_samples
    source = open_source(config.dataset, None if limit == "all" else limit, group_column=config.evaluation.group_column)
    check_classes(config, source)
    division = divide(config, source)
    labels = division.labels[~division.tested]
    check_labels(source, labels[np.isfinite(labels)].astype(np.int64))
    return division


def _embed(
    config: TrainConfig,
    division: Division,
    recipe: Recipe,
    resources: Resources,
    cache: EmbeddingCache | None,
    sidecar: dict[str, Any] | None,
    allow_drift: bool,
    clock: Stopwatch,
) -> Embeddings:
    """Every clip's vector, once it is known that nothing differs from the sidecar, if there is one."""
    digests = None
    if sidecar is not None or (cache is not None and cache.files()):
        digests = cluster.hash_clips(division.source, resources)
        clock.lap("reading what was begun")
    if sidecar is not None and digests is not None:
        _check_drift(sidecar, record.provenance(division, recipe, digests), resources.gpu, allow_drift)
    if config.paths.run_dir is not None and cache is not None and digests is not None:
        run_folder.check_digests(_place("run_dir", config), cache, division.source, digests)
    embedded = cluster.embed(
        division.source,
        recipe,
        resources,
        allowed(config.processing.max_bad_fraction, len(division.tested)),
        baseline=bool(division.tested.any()),
        cache=cache,
        digests=digests,
        gathered=len(division.tested) <= config.cluster.gather_limit,
    )
    clock.lap("embedding")
    return embedded


def _cache(config: TrainConfig, division: Division, recipe: Recipe, resources: Resources) -> EmbeddingCache | None:
    """Where vectors are kept: in the run's own folder, in a cache of many runs, or not at all."""
    if config.paths.embedding_cache is not None:
        return open_cache(_place("embedding_cache", config), recipe, resources)
    if config.paths.run_dir is None:
        return None
    place = _place("run_dir", config)
    described = describe(recipe, gpu=resources.gpu, threads=resources.threads)
    if run_folder.enter(place, config, division, recipe, described):
        log.info("going on with the run in %s", place)
    return open_cache(run_folder.embeddings(place), recipe, resources, mark="run-")


def _shared_outputs(config: TrainConfig, save_path: str) -> tuple[tuple[str, str], ...]:
    """(key, folder or URI) of what workers write, or what has to be on storage that they share."""
    found = [(key, _place(key, config)) for key in ("embedding_cache", "run_dir") if getattr(config.paths, key)]
    if "://" in save_path or storage.in_submitted_job():
        found.append(("save_path", save_path.rsplit("/", 1)[0] or "/"))
    return tuple((f"paths.{key}", place) for key, place in found)


def _clips(config: TrainConfig, division: Division, embedded: Embeddings) -> Clips:
    """Which clips to train on and which to test on, of those that could be embedded.

    Raises DataError if too many could not, of either.
    """
    bad = _bad_clips(config, division, embedded.bad)
    good = np.array([row not in embedded.bad for row in range(len(division.tested))])
    used, tested = np.flatnonzero(good & ~division.tested), np.flatnonzero(good & division.tested)
    if bad:
        check_labels(division.source, division.labels[used].astype(np.int64))
    unseen = tested[~np.isin(embedded.digests[tested], embedded.digests[used])]
    return Clips(used=used, unseen=unseen, num_also_trained_on=len(tested) - len(unseen), bad=bad)


def _assembly(
    division: Division, embedded: Embeddings, clips: Clips, recipe: Recipe, cache: EmbeddingCache | None
) -> Callable[[Path], TrainingSet]:
    """What gives the head's task its data."""
    gathered = len(embedded.vectors) > 0
    base = TrainingSet(
        embeddings=np.zeros((0, recipe.vector_size), dtype=np.float32),
        layers=recipe.layers if recipe.layer == "all" else (),
        labels=division.labels[clips.used].astype(np.int64),
        num_classes=len(division.source.labels),
        groups=kept_together(division.groups, embedded.digests, clips.used),
        drawn=clips.drawn,
    )
    used, held = clips.used, clips.unseen
    if gathered:
        vectors = by_layer(embedded.vectors, recipe) if recipe.layer == "all" else embedded.vectors
        return partial(from_gathered, base=base, vectors=vectors, log_mel=embedded.log_mel, used=used, held=held)
    assert cache is not None
    return partial(from_storage, base=base, cache=cache, digests=embedded.digests, used=used, held=held)


def _check_size(config: TrainConfig, num_examples: int) -> None:
    """Raise ConfigError if there are too many clips to be gathered, and that is in the way of something."""
    if num_examples <= config.cluster.gather_limit:
        return
    if config.paths.run_dir is None and config.paths.embedding_cache is None:
        raise ConfigError(
            f"cluster.gather_limit: expected paths.run_dir, where the embeddings of {num_examples} clips can stay "
            f"(more than {config.cluster.gather_limit} are not gathered), found none; name a folder or a URI."
        )
    check_streamed(config)


def _check_drift(sidecar: dict[str, Any], current: dict[str, Any], gpu: bool, allow_drift: bool) -> None:
    """Name what differs from the sidecar; ConfigError unless that is allowed."""
    if current["encoder"]["sha256"] is not None:
        del current["encoder"]["name"]  # a folder may lie elsewhere: its digest says what is in it
    if current["encoder"].get("layer") == "all":
        del current["encoder"]["layer"]  # it is still to be chosen
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


def _bad_clips(config: TrainConfig, division: Division, bad: dict[int, str]) -> list[dict[str, Any]]:
    """The clips that cannot be used: [{"split", "id", "clip", "reason"}].

    Raises DataError if they are too many, of those to train on or of those to test on.
    """
    parts: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for row in sorted(bad):
        split, number = division.place(row)
        entry = {"split": split or config.dataset.split, "id": number, "clip": record.name(division, row)}
        parts[bool(division.tested[row])].append({**entry, "reason": bad[row]})
    for tested, records in parts.items():
        num_examples = int((division.tested == tested).sum())
        check_unusable(records, num_examples, config.processing.max_bad_fraction)
    return parts[False] + parts[True]
