"""The model card of an artifact, made from its sidecar. Anybody may have written that: its text is escaped.

Computes no figures, and leaves out what the sidecar does not have.
"""

from __future__ import annotations

from typing import Any

from golem_ray.artifact.card_of_several import figures_of_several
from golem_ray.artifact.in_pytorch import lines_in_pytorch
from golem_ray.artifact.markdown import code, figure, group, is_number, measured, number, python
from golem_ray.artifact.published import beside, dataset_name, encoder_is_on_hub, is_on_hub
from golem_ray.artifact.sharing import JOINED, SIDECAR, WEIGHTS
from golem_ray.config import Noun, noun_of
from golem_ray.data.extra import sources_of
from golem_ray.embedding.modality import Card, modality_named
from golem_ray.heads.multi_label import MULTI_LABEL
from golem_ray.metrics.figures import FIGURES
from golem_ray.sample import DATASETS

_BUNDLED = ("sample", "ngrams")
"""Encoders that come with golem_ray."""

MAX_NAMED_LABELS = 50
"""The card names so many labels at most, and says how many others there are."""


def model_card(document: dict[str, Any], repo_id: str) -> str:
    """The README.md of the repository that the artifact with this (published) sidecar lies in."""
    sections = [
        f"---\n{_metadata(document, repo_id)}\n---",
        f"# {code(repo_id.rpartition('/')[2])}",
        _what_it_is(document),
        f"## Labels\n\n{_labels(document['labels'])}",
        f"## What it was trained on\n\n{_training_set(document)}",
        f"## How good it is\n\n{_how_good(document)}",
        f"## How to use it\n\n{_usage(document, repo_id)}",
        "## What is in this repository\n\n"
        f"`{WEIGHTS}` is the state of {_head(document)} and nothing else. `{SIDECAR}` is the record of the run that "
        "trained it: labels, encoder, configuration, versions, figures. Of paths on the machine where that was, "
        "only the last component was kept.",
    ]
    return "\n\n".join(sections) + "\n"


def _metadata(document: dict[str, Any], repo_id: str) -> str:
    """The metadata that the Hub reads from a card, as YAML."""
    from huggingface_hub import ModelCardData

    dataset, card = dataset_name(document), _card(document)
    on_hub = is_on_hub(document["data"], dataset)
    results = _model_index(document) if on_hub else None
    datasets = [str(dataset)] if on_hub else []
    datasets += [table[key] for table, key, also in beside(document) if also]
    return ModelCardData(
        library_name="golem_ray",
        pipeline_tag=card.task,
        tags=list(card.tags),
        base_model=document["encoder"]["name"] if encoder_is_on_hub(document) else None,
        datasets=datasets or None,
        model_name=repo_id.rpartition("/")[2] if results else None,
        eval_results=results,
    ).to_yaml()


def _card(document: dict[str, Any]) -> Card:
    """What there is to say of the modality."""
    return modality_named(document.get("modality", "speech")).card


def _model_index(document: dict[str, Any]) -> list[Any] | None:
    """The accuracy, or macro F1, on examples that were not trained on, in the Hub's form; None if there is none."""
    from huggingface_hub import EvalResult

    metric = ("f1", "Macro F1") if _is_several(document) else ("accuracy", None)
    found = _evaluated(document["metrics"]).get("macro_f1" if _is_several(document) else "accuracy")
    if found is None:
        return None
    dataset = document["config"]["dataset"]
    how = document["metrics"]["evaluation"].get("how")
    return [
        EvalResult(
            task_type=_card(document).task,
            dataset_type=dataset["name"],
            dataset_name=dataset["name"],
            dataset_config=dataset.get("name_alias"),
            dataset_split=str(dataset.get("split") if how == "held out" else how),
            dataset_revision=document["data"]["revision"],
            metric_type=metric[0],
            metric_name=metric[1],
            metric_value=float(found["value"]),
        )
    ]


def _what_it_is(document: dict[str, Any]) -> str:
    encoder, card = document["encoder"], _card(document)
    what, number_of = f"A classifier of {card.examples} into", len(document["labels"])
    several = _is_several(document)
    if several:
        which = "one or more" if document["metrics"]["calibration"]["at_least_one"] else "any number"
        what = f"A classifier that gives {card.examples} {which} of"
    return (
        f"{what} {number_of} {'labels' if several else 'classes'}: {_head(document)} on the embeddings of a frozen "
        f"encoder, {_encoder(document)}: {_layer(document)}. {card.made_for(encoder)}"
    )


def _head(document: dict[str, Any]) -> str:
    hidden = document["head"].get("hidden", [])
    if not hidden:
        return "a linear layer"
    widths = " and ".join(f"{width}" for width in hidden)
    return f"a network with {'hidden layers' if len(hidden) > 1 else 'a hidden layer'} of {widths}"


def _layer(document: dict[str, Any]) -> str:
    encoder, over = document["encoder"], _card(document).over
    layer = encoder.get("layer", "last")
    named = {"mean": "the mean of its layers", "last": "its last layer"}.get(layer, f"its layer {layer}")
    pooling = encoder.get("pooling", "mean")
    if pooling == "cls":
        return f"{named}, its first token"
    return f"{named}, {'averaged' if pooling == 'mean' else 'mean and deviation'} over {over}"


def _joined(document: dict[str, Any]) -> str:
    """What is appended to the encoder's vector, if something is."""
    if "joined" not in document and not document["encoder"].get("join_baseline"):
        return ""
    baseline = modality_named(document.get("modality", "speech")).baseline.name
    file = f" by {JOINED}" if "joined" in document else ""
    return f"; joined with {baseline}{file}"


def _encoder(document: dict[str, Any]) -> str:
    encoder = document["encoder"]
    name = code(encoder.get("name"))
    if encoder_is_on_hub(document):
        return f"{name} at commit {code(encoder['revision'])}"
    if encoder.get("name") in _BUNDLED:
        return f"{name}, the small one that comes with golem_ray"
    return f"{name}, which is not on the Hub (sha256 {code(encoder.get('sha256'))})"


def _labels(labels: list[str]) -> str:
    named = ", ".join(code(label) for label in labels[:MAX_NAMED_LABELS])
    return named + (f", and {len(labels) - MAX_NAMED_LABELS} more." if len(labels) > MAX_NAMED_LABELS else ".")


def _training_set(document: dict[str, Any]) -> str:
    main, *others = sources_of(document)
    name, noun = dataset_name(document), noun_of(document)
    where = "" if is_on_hub(document["data"], name) or name in tuple(DATASETS) else ", which is not on the Hub"
    revision = document["data"].get("revision")
    more = "".join(f", and {_share(each, noun)} of {code(each['name'])}" for each in others)
    number = _share(main, noun)
    return f"{number} of {code(name)}{f' at commit {code(revision)}' if revision and not where else ''}{where}{more}."


def _share(source: dict[str, Any], noun: Noun) -> str:
    """How many examples of a dataset were trained on, in words."""
    used, total = source["used"], source["total"]
    counted = number(used) if used == total else f"{number(used)} of {number(total)}"
    return f"{counted} {noun.many}"


def _is_several(document: dict[str, Any]) -> bool:
    return document.get("target") == MULTI_LABEL.name


def _how_good(document: dict[str, Any]) -> str:
    noun = noun_of(document)
    return figures_of_several(document, noun) if _is_several(document) else _figures(document["metrics"], noun)


def _figures(metrics: dict[str, Any], noun: Noun) -> str:
    lines, many = [], noun.many
    if is_number(metrics.get("training_accuracy")):
        line = f"* Training accuracy: {metrics['training_accuracy']:.1%}, on the {many} that it was trained on, which"
        lines.append(f"{line} it may know by heart{_chance(metrics)}.")
    validated = group(metrics, "cross_validation")
    if is_number(validated.get("accuracy")):
        sampled = f"sampled {many}, on which alone those heads were trained"
        which = sampled if validated.get("sampled") is True else many
        lines.append(
            f"* Cross-validated accuracy, of heads trained alike and tested on {many} that they were not trained on: "
            f"{figure(validated, 'accuracy')}, over {number(validated.get('num_clips'))} {which}."
        )
    else:
        lines.append("* Cross-validated accuracy: none was measured.")
    lines += _evaluation_lines(metrics, noun)
    temperature = group(metrics, "calibration").get("temperature")
    if is_number(temperature):
        lines.append(
            f"* Probabilities are calibrated, by a temperature of {temperature:.2f} that logits are divided by."
        )
    else:
        lines.append("* Probabilities are not calibrated: expect them to be too sure.")
    lines += _rejection_lines(group(metrics, "reject"), noun)
    return "\n".join(lines)


def _rejection_lines(record: dict[str, Any], noun: Noun) -> list[str]:
    """What golem_ray calls unsure, where it was trained to; heads/reject.py has checked the record."""
    one, many = noun
    if not record:
        return []
    if record["threshold"] is None:
        return [f"* `golem_ray` calls every {one} `unsure`: it is not known where this classifier can be believed."]
    if record["by"] == "unlike":
        kept, refused = (figure(record[key], "value") for key in ("kept", "refused"))
        return [
            f"* `golem_ray` calls a {one} `unsure` that is unlike all classes: of {many} like those trained on it "
            f"keeps {kept}, of those of an unknown class it refuses {refused}."
        ]
    return [
        f"* `golem_ray` calls a {one} `unsure` where the chance that its label is right, by its probability and by its "
        f"nearness to the class, is below {record['threshold']:.3f}, so that {record['precision']:.0%} of the other "
        "labels are right."
    ]


def _chance(metrics: dict[str, Any]) -> str:
    if not is_number(metrics.get("chance")):
        return ""
    largest = metrics.get("largest_class")
    always = f", always naming the largest class {largest:.1%}" if is_number(largest) else ""
    return f"; chance is {metrics['chance']:.1%}{always}"


def _evaluation_lines(metrics: dict[str, Any], noun: Noun) -> list[str]:
    figures = _evaluated(metrics)
    if not figures:
        return []
    evaluation = metrics["evaluation"]
    how = evaluation.get("how")
    where = "held out from training" if how == "held out" else f"of the split {code(how)}"
    counted = f"{number(evaluation.get('num_clips'))} {noun.many}"
    lines = [f"* On the {counted} {where}, which it was not trained on:"]
    chance = group(group(evaluation, "baselines"), "chance")
    chance = {name: value for name, value in chance.items() if name != "expected_calibration_error"}  # of no use: 0
    for name, kind in FIGURES.items():
        if name in figures:
            beside = f"; chance is {kind.shown(chance[name])}" if is_number(chance.get(name)) else ""
            lines.append(f"  * {kind.title}: {figure(figures[name], 'value', kind.format)}{beside}")
    return lines


def _evaluated(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures on examples that were not trained on; empty if there were none."""
    return measured(group(group(metrics, "evaluation"), "figures"))


def _usage(document: dict[str, Any], repo_id: str) -> str:
    local = not encoder_is_on_hub(document) and document["encoder"].get("name") not in _BUNDLED
    encoder = ', encoder="folder"' if local else ""
    shown = _card(document).shown
    text = python(["import golem_ray", "", f'print(golem_ray.load("{repo_id}"{encoder}).predict("{shown}"))'])
    if local:
        text = (
            "Its encoder is not on the Hub: whoever made it has to hand it over, as a folder that `save_pretrained` "
            f"wrote. The right one has the sha256 {code(document['encoder'].get('sha256'))}, which is checked.\n\n"
            + text
        )
    plain = lines_in_pytorch(document, repo_id, f"of the encoder, {_layer(document)}{_joined(document)}")
    return f"{text}\n\nOr in plain PyTorch, without golem_ray:\n\n{python(plain)}"
