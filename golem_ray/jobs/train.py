"""One training run, from a configuration to a saved artifact and its report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from golem_ray import artifact, storage
from golem_ray.config import TrainConfig
from golem_ray.data import Source, open_source
from golem_ray.data.extra import named_together
from golem_ray.data.labels import check_classes, check_labels, check_streamed, name_equal_files
from golem_ray.data.split import Division, divide
from golem_ray.data.unusable import allowed
from golem_ray.embedding import run_folder
from golem_ray.embedding.cache import EmbeddingCache, describe, open_cache
from golem_ray.embedding.embeddings import Embeddings
from golem_ray.embedding.joining import join_files
from golem_ray.embedding.modality import modality_named, modality_of
from golem_ray.embedding.recipe import Recipe
from golem_ray.embedding.stage import EmbeddingTask
from golem_ray.engine import Engine
from golem_ray.errors import ConfigError
from golem_ray.heads.targets import target_of
from golem_ray.heads.terms import JoinedScores
from golem_ray.heads.training_set import HeadCandidate, HeadSpec
from golem_ray.jobs import outcome
from golem_ray.jobs.choice import candidates_for, decided, head_candidates
from golem_ray.jobs.engines import announce, opened
from golem_ray.jobs.origin import Origin, log_going_on
from golem_ray.jobs.outcome import Run
from golem_ray.jobs.training_data import FromCache, FromMemory, Terms, TrainingRows
from golem_ray.jobs.usable import UsedExamples, used_examples
from golem_ray.jobs.vectors import gather
from golem_ray.locks import locked
from golem_ray.progress import Stopwatch


def run(config: TrainConfig, *, sidecar: dict[str, Any] | None = None, allow_drift: bool = False) -> dict[str, str]:
    """Train and save; returns {"savedArtifactPath", "summary"}. Raises UserError, an old artifact untouched.

    With a sidecar, whose configuration `config` then is, the run must have the same versions, revisions and
    inputs, unless allow_drift.
    """
    origin = Origin(sidecar, allow_drift)
    config = origin.pinned(config)
    save_path = config.paths.place("save_path")
    report_path = config.paths.place("report_path") if config.paths.report_path else artifact.report_path(save_path)
    artifact.check_writable(save_path)
    artifact.check_report("paths.report_path", report_path)
    modality = modality_of(config.dataset)
    recipe = modality.recipe(config.model, config.processing)
    clock = Stopwatch()
    division = _divided(config)
    num_examples = len(division.tested)
    _check_size(config, num_examples)
    clock.lap("listing")
    alone, outputs = run_folder.alone(_run_dir(config)), _shared_outputs(config, save_path)
    with alone, opened(config.cluster, config.device, modality, num_examples, outputs=outputs) as engine:
        clock.lap("joining the cluster")
        announce(named_together(config.dataset), num_examples, recipe.encoder, engine.resources, division.noun)
        cache = _cache(config, division, recipe, engine)

        def embed() -> Embeddings:
            return _embed(config, division, recipe, engine, cache, origin, clock)

        done = trained(config, division, recipe, engine, embed, clock, cache)
    document = outcome.sidecar(done)
    with locked(save_path.rpartition("/")[0], wait=True):  # else two runs that end at once may mix their files
        artifact.save(save_path, done.head.weights, document, done.head.joined)
        artifact.save_report(report_path, outcome.report(done, document))
    if cache is not None and cache.mark:
        with locked(cache.folder.rpartition("/")[0], wait=False) as free:  # else another run is at work there by now
            if free:
                join_files(cache)
    return {"savedArtifactPath": save_path, "summary": document["summary"]}


def trained(
    config: TrainConfig,
    division: Division,
    recipe: Recipe,
    engine: Engine,
    embed: Callable[[], Embeddings],
    clock: Stopwatch,
    cache: EmbeddingCache | None = None,
) -> Run:
    """A head trained on the embeddings of the division's examples, which `embed` gives.

    Raises UserError if too few examples can be used, or if the training does not converge.
    """
    modality, embedded = modality_named(recipe.modality), embed()
    used = used_examples(config, division, embedded)
    candidates = candidates_for(config, recipe)
    heads = head_candidates(config, recipe, candidates)
    assemble = engine.share(_training_data(division, recipe, embedded, used, heads, cache))
    digests, cost = embedded.digests, embedded.cost
    del embedded  # its vectors are with the engine now
    spec = HeadSpec(
        num_classes=len(division.source.labels),
        head=heads[0].head if heads else config.head,
        training=config.training,
        target=target_of(division.several),
        reject=config.evaluation.reject,
        joined=config.model.join_baseline is True and modality.terms is not None,
    )
    head, worker = engine.train(assemble, spec, config.evaluation.repeats)
    clock.lap("training")
    if not math.isfinite(head.metrics["final_loss"]):
        raise ConfigError(
            f"training.learning_rate: expected a rate at which training converges, found the loss to become "
            f"{head.metrics['final_loss']} with {config.training.learning_rate}; use a smaller one."
        )
    chosen = None if head.chosen is None else candidates[head.chosen]
    config, recipe = decided(config, recipe, chosen)
    if head.joined is not None:
        fitted = JoinedScores(head.joined)
        recipe = dataclasses.replace(recipe, joined=fitted.size, fitted=fitted)
    return Run(
        config=config,
        division=division,
        recipe=recipe,
        candidates=candidates,
        digests=digests,
        cost=cost,
        examples=used,
        spec=spec,
        head=head,
        device=worker["device"],
        gpu=engine.resources.gpu,
        timings=clock.seconds,
    )


def _divided(config: TrainConfig) -> Division:
    """The configured examples, to train on and to test on. Raises UserError if they cannot be had or will not do."""
    content = modality_of(config.dataset).content
    source = open_source(config.dataset, content, config.processing.limit, group_column=config.evaluation.group_column)
    return divided(config, source)


def divided(config: TrainConfig, source: Source) -> Division:
    """The source's examples, to train on and to test on. Raises UserError if they will not do."""
    content = modality_of(config.dataset).content
    check_classes(config, source)
    division = divide(config, source, content)
    check_labels(source, division.labels_of(np.flatnonzero(~division.tested & division.known)))
    return division


def _check_size(config: TrainConfig, num_examples: int) -> None:
    """Raise ConfigError if there are too many examples to be gathered, and that is in the way of something."""
    if num_examples <= config.cluster.gather_limit:
        return
    if config.paths.run_dir is None and config.paths.embedding_cache is None:
        raise ConfigError(
            f"cluster.gather_limit: expected paths.run_dir, where the embeddings of {num_examples} "
            f"{config.dataset.noun.many} can stay (more than {config.cluster.gather_limit} are not gathered), found "
            "none; name a folder or a URI."
        )
    check_streamed(config)


def _shared_outputs(config: TrainConfig, save_path: str) -> tuple[tuple[str, str], ...]:
    """(key, folder or URI) of what workers write, or what has to be on storage that they share."""
    found = [(key, config.paths.place(key)) for key in ("embedding_cache", "run_dir") if getattr(config.paths, key)]
    if "://" in save_path or storage.in_submitted_job():
        found.append(("save_path", save_path.rsplit("/", 1)[0] or "/"))
    return tuple((f"paths.{key}", place) for key, place in found)


def _run_dir(config: TrainConfig) -> str | None:
    """The run's own folder, if it has one."""
    return config.paths.place("run_dir") if config.paths.run_dir else None


def _cache(config: TrainConfig, division: Division, recipe: Recipe, engine: Engine) -> EmbeddingCache | None:
    """Where vectors are kept: in the run's own folder, in a cache of many runs, or not at all."""
    resources = engine.resources
    if config.paths.embedding_cache is not None:
        return open_cache(config.paths.place("embedding_cache"), recipe, resources)
    place = _run_dir(config)
    if place is None:
        return None
    described = describe(recipe, gpu=resources.gpu, threads=resources.threads)
    if run_folder.enter(place, config, division, recipe, described):
        log_going_on(place)
    return open_cache(run_folder.embeddings(place), recipe, resources, key="paths.run_dir", mark="run-")


def _embed(
    config: TrainConfig,
    division: Division,
    recipe: Recipe,
    engine: Engine,
    cache: EmbeddingCache | None,
    origin: Origin,
    clock: Stopwatch,
) -> Embeddings:
    """Every example's vector, once it is known that nothing differs from what the run is to make again."""
    digests, run_dir = None, _run_dir(config)
    if origin.sidecar is not None or (cache is not None and cache.files()):
        digests = engine.digests(division.source)
        clock.lap("reading what was begun")
        origin.check(division, recipe, digests, engine.resources.gpu)
        if run_dir is not None and cache is not None:
            run_folder.check_digests(run_dir, cache, division, digests)
        name_equal_files(division, digests)
    gathered = len(division.tested) <= config.cluster.gather_limit
    task = EmbeddingTask(
        recipe=recipe,
        baseline=(gathered or bool(division.tested.any())) and modality_named(recipe.modality).baseline.size > 0,
        cache=cache,
        gathered=gathered,
        crash_notes=None if run_dir is None else run_folder.crash_notes(run_dir),
    )
    most = allowed(config.processing.max_bad_fraction, len(division.tested))
    embedded = gather(engine, division.source, task, most, digests)
    clock.lap("embedding")
    if digests is None:
        name_equal_files(division, embedded.digests, embedded.bad)
    return embedded


def _training_data(
    division: Division,
    recipe: Recipe,
    embedded: Embeddings,
    used: UsedExamples,
    candidates: tuple[HeadCandidate, ...],
    cache: EmbeddingCache | None,
) -> FromMemory | FromCache:
    """What gives the head's task its data."""
    rows = TrainingRows(
        used=used.used,
        held=used.unseen,
        labels=division.labels_of(used.used),
        groups=used.groups,
        extra=used.extra,
        candidates=candidates,
        drawn=used.drawn,
    )
    counted = modality_named(recipe.modality).terms is not None
    terms = Terms(examples=division.source.examples, recipe=recipe) if counted else None
    if len(embedded.vectors):
        return FromMemory(rows=rows, vectors=embedded.vectors, baseline=embedded.baseline, terms=terms)
    assert cache is not None
    return FromCache(rows=rows, cache=cache, digests=embedded.digests, terms=terms)
