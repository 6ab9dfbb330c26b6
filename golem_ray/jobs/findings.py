"""What stands out in a dataset, and what to do about it: a short list in plain words, of what applies alone.

Knows the figures of a description (describe.py); does not make them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from golem_ray.config import DescribeConfig, Noun
from golem_ray.data.labels import written_alike
from golem_ray.data.unusable import allowed
from golem_ray.embedding.modality import Modality, Origins

_IMBALANCE = 3
"""How many times as many examples as the smallest label the largest has, before that is worth a word."""

_FEW = 10
"""Examples of a label, where there may be several, below which there is a word about it."""

_MANY_WITHOUT = 0.2
"""Share of the examples without a label, where there may be several, from which on there is one."""

_MOST_ALIKE = 3
"""Findings of one kind at most."""

Pairs = list[tuple[str, str]]
"""What was found, and what to do about it."""


def findings(found: dict[str, Any], config: DescribeConfig, modality: Modality) -> list[dict[str, str]]:
    """[{"finding", "advice"}] of a description's figures: first what keeps a training from starting."""
    noun, origins = modality.content.noun, modality.origins
    pairs = [
        *_unusable(found, config, noun),
        *_labels(found, noun),
        *_copies(found, noun, modality.content.inline),
        *_groups(found["groups"], noun, origins),
        *_telling(found["facts"], noun, origins),
        *_flags(found, noun),
        *_limit(found, config, noun),
    ]
    return [{"finding": finding, "advice": advice} for finding, advice in pairs]


def _unusable(found: dict[str, Any], config: DescribeConfig, noun: Noun) -> Pairs:
    """Examples that cannot be read, or have no label; a training refuses more than configured."""
    num_clips, num_bad = found["num_clips"], found["num_clips"] - found["num_usable"]
    if not num_bad:
        return []
    reasons = Counter(record["reason"] for record in found["bad"])
    if found["num_without_label"]:
        unknown = (
            "whose labels are not known" if "several" in found else "no label, or one that the source does not name"
        )
        reasons[unknown] += found["num_without_label"]
    named = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
    more = f"; {len(reasons) - 3} other reasons" if len(reasons) > 3 else ""
    advice = "mend or remove them"
    if allowed(config.processing.max_bad_fraction, num_clips) < num_bad < num_clips:
        fraction = math.ceil(1000 * num_bad / num_clips) / 1000
        advice += f", or have a training leave them out by --processing.max-bad-fraction {fraction:g}"
    return [(f"{num_bad} of {num_clips} {noun.many} cannot be used ({named}{more})", advice)]


def _labels(found: dict[str, Any], noun: Noun) -> Pairs:
    one, many = noun
    if found["no_labels"]:
        finding, _, advice = found["no_labels"].partition(": ")
        other = f"sort the {many} into a folder per label, or put a metadata.csv with file_name and label beside them"
        return [(f"No labels to train on ({finding})", advice or f"{other} (--dataset.label-column label)")]
    counts = {record["label"]: record["num_clips"] for record in found["labels"]}
    present = {name: count for name, count in counts.items() if count}
    pairs = []
    if len(present) < 2:
        lone = f"{many.capitalize()} of {len(present)} label alone"
        pairs.append((lone, f"take more {many}, or another column; a training needs two"))
    if absent := [name for name in counts if name not in present]:
        pairs.append((_counted(absent, f"without a {one}"), f"add {many}, or take more of the source"))
    several = "several" in found
    if few := [name for name, count in present.items() if count < _FEW] if several else []:
        advice = "add some, or join them with like ones by [dataset.label_map]; figures of so few say little"
        pairs.append((_counted(sorted(few, key=present.__getitem__), f"of fewer than {_FEW} {many}"), advice))
    elif single := [name for name, count in present.items() if count == 1]:
        advice = f"add some; a lone {one} is trained on and never tested"
        pairs.append((_counted(single, f"of one {one} alone"), advice))
    most, least = (pick(present, key=present.__getitem__, default="") for pick in (max, min))
    if present and present[most] >= _IMBALANCE * present[least]:
        uneven = f"Labels are uneven, from {present[least]} of {least!r} to {present[most]} {many} of {most!r}"
        read = "macro F1 and the figures of each" if several else "balanced accuracy and macro F1"
        pairs.append((uneven, f"--head.class-weights has them count alike; read {read}"))
    pairs += _together(found["several"], noun) if several else []
    for names in written_alike(list(counts))[:_MOST_ALIKE]:
        alike = " and ".join(map(repr, names))
        pairs.append((f"Labels {alike} differ by how they are written alone", "write them alike if they mean the same"))
    return pairs


def _together(several: dict[str, Any], noun: Noun) -> Pairs:
    """Of examples that may have several labels: those without any, and labels that say the same."""
    pairs, per_example = [], several["per_example"]
    total, most_labels = sum(per_example), len(per_example) - 1
    if total and per_example[0] >= _MANY_WITHOUT * total:
        share = f"{per_example[0]} of {total} {noun.many} have no label ({per_example[0] / total:.0%})"
        pairs.append((share, "a classifier learns to give such none; leave out those that nobody has labelled"))
    if total and most_labels == 1 and not per_example[0]:
        one_each = f"Each {noun.one} has exactly one label, though it may have several"
        pairs.append(
            (one_each, "with a column of plain labels a training chooses one for each, and is more often right")
        )
    for tied in several["tied"][:_MOST_ALIKE]:
        label, other, count = repr(tied["label"]), repr(tied["other"]), tied["num_clips"]
        if tied["is_mutual"]:
            advice = "make them one by [dataset.label_map]; nothing here tells them apart"
            pairs.append((f"Labels {label} and {other} always come together ({count} {noun.many})", advice))
        else:
            advice = f"as it should be if the one implies the other; else add {noun.many} with {label} alone"
            pairs.append((f"Label {label} never comes without {other} ({count} {noun.many})", advice))
    return pairs


def _counted(names: Sequence[str], what: str) -> str:
    """`2 labels are without a clip ('a', 'b')`."""
    named = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{len(names)} {'labels are' if len(names) > 1 else 'label is'} {what} ({named})"


def _copies(found: dict[str, Any], noun: Noun, inline: bool) -> Pairs:
    """Examples that are there more than once; inline, they need not be files."""
    equal, differ = ("equal", "that differ") if inline else ("equal files", "in files that differ")
    pairs, files = [], found["equal_files"]
    if files["num_clips"]:
        advice = "remove all but one of each; a training keeps them on one side of a fold"
        pairs.append((f"{files['num_clips']} {noun.many} are {equal} ({files['num_sets']} different ones)", advice))
    for content in found["equal_content"]:
        if content["num_clips"]:
            what = f"have {content['title']} ({content['num_sets']} different ones)"
            same = f"{content['num_clips']} {noun.many} {differ} {what}"
            pairs.append((same, "remove all but one of each; a training may be tested on what it was trained on"))
    if found["num_under_two_labels"]:
        other, decide = ("other labels", "the labels of") if "several" in found else ("another label", "one label for")
        mixed = f"{found['num_under_two_labels']} {noun.many} are there under {other} too"
        pairs.append((mixed, f"decide on {decide} each"))
    return pairs


def _groups(groups: dict[str, Any] | None, noun: Noun, origins: Origins) -> Pairs:
    if groups is None:
        advice = "add one to the metadata, named by --evaluation.group-column; figures may be too good for others"
        return [(f"No column says {origins.unsaid}", advice)]
    pairs, column, several = [], groups["column"], groups["num_groups"] > 1
    if several and groups["is_guess"]:
        advice = f"--evaluation.group-column {column} keeps each on one side of a test; figures are too good without"
        values = f"The column {column!r} has {groups['num_groups']} values"
        pairs.append((f"{values}, which may be {origins.guessed}", advice))
    if groups["num_groups"] == 1:
        pairs.append((f"All {noun.many} are of one {column}", "expect less of others than the figures say"))
    if groups["num_without"]:
        advice = "fill it in; until then each counts as of one of its own"
        pairs.append((f"{groups['num_without']} {noun.many} have no {column}", advice))
    if several and groups["one_group"]:
        named = _counted(list(groups["one_group"]), f"of one {column} alone")
        pairs.append((named, f"add {noun.many} of others; a classifier could learn the {column} instead"))
    return pairs


def _telling(facts: Sequence[dict[str, Any]], noun: Noun, origins: Origins) -> Pairs:
    """Categories that say what the label is."""
    pairs = []
    for fact in facts:
        for label, value in list(fact.get("telling", {}).items())[:_MOST_ALIKE]:
            kind = f"{fact['title']} {value} {fact['unit']}".rstrip()
            advice = f"{origins.alike}; a classifier could learn the {fact['title']} instead"
            pairs.append((f"All {noun.many} of {label!r} have the {kind}, most others have not", advice))
    return pairs


def _flags(found: dict[str, Any], noun: Noun) -> Pairs:
    pairs = []
    for fact in found["facts"]:
        if fact["kind"] == "flag" and fact["num_clips"]:
            count = fact["num_clips"]
            first = f"{'for one ' if count > 1 else ''}{fact['clips'][0]}"
            counted = f"{count} of {found['num_clips']} {noun.many} {'are' if count > 1 else 'is'}"
            pairs.append((f"{counted} {fact['title']}, {first}", fact["advice"]))
    return pairs


def _limit(found: dict[str, Any], config: DescribeConfig, noun: Noun) -> Pairs:
    limit, total = config.trained_on, found["total"] or found["num_clips"]
    if limit == "all" or total <= limit or found["no_labels"]:
        return []
    return [(f"A training takes the first {limit} of {total} {noun.many}", "--processing.max-samples all takes all")]
