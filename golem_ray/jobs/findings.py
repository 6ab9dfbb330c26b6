"""What stands out in a dataset, and what to do about it: a short list in plain words, of what applies alone.

Knows the figures of a description (describe.py); does not make them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from golem_ray.config import DescribeConfig, Noun, ProcessingConfig
from golem_ray.data.labels import written_alike
from golem_ray.data.unusable import allowed

_IMBALANCE = 3
"""How many times as many examples as the smallest label the largest has, before that is worth a word."""

_MOST_ALIKE = 3
"""Findings of one kind at most."""

Pairs = list[tuple[str, str]]
"""What was found, and what to do about it."""


def findings(found: dict[str, Any], config: DescribeConfig, noun: Noun) -> list[dict[str, str]]:
    """[{"finding", "advice"}] of a description's figures: first what keeps a training from starting."""
    pairs = [
        *_unusable(found, config, noun),
        *_labels(found, noun),
        *_copies(found, noun),
        *_groups(found["groups"], noun),
        *_telling(found["facts"], noun),
        *_flags(found, noun),
        *_limit(found, noun),
    ]
    return [{"finding": finding, "advice": advice} for finding, advice in pairs]


def _unusable(found: dict[str, Any], config: DescribeConfig, noun: Noun) -> Pairs:
    """Examples that cannot be read, or have no label; a training refuses more than configured."""
    num_clips, num_bad = found["num_clips"], found["num_clips"] - found["num_usable"]
    if not num_bad:
        return []
    reasons = Counter(record["reason"] for record in found["bad"])
    if found["num_without_label"]:
        reasons["no label, or one that the source does not name"] += found["num_without_label"]
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
    if single := [name for name, count in present.items() if count == 1]:
        advice = f"add some; a lone {one} is trained on and never tested"
        pairs.append((_counted(single, f"of one {one} alone"), advice))
    most, least = (pick(present, key=present.__getitem__, default="") for pick in (max, min))
    if present and present[most] >= _IMBALANCE * present[least]:
        uneven = f"Labels are uneven, from {present[least]} of {least!r} to {present[most]} {many} of {most!r}"
        pairs.append((uneven, "--head.class-weights has them count alike; read balanced accuracy and macro F1"))
    for names in written_alike(list(counts))[:_MOST_ALIKE]:
        alike = " and ".join(map(repr, names))
        pairs.append((f"Labels {alike} differ by how they are written alone", "write them alike if they mean the same"))
    return pairs


def _counted(names: Sequence[str], what: str) -> str:
    """`2 labels are without a clip ('a', 'b')`."""
    named = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{len(names)} {'labels are' if len(names) > 1 else 'label is'} {what} ({named})"


def _copies(found: dict[str, Any], noun: Noun) -> Pairs:
    pairs, files = [], found["equal_files"]
    if files["num_clips"]:
        advice = "remove all but one of each; a training keeps them on one side of a fold"
        equal = f"{files['num_clips']} {noun.many} are equal files ({files['num_sets']} different ones)"
        pairs.append((equal, advice))
    for content in found["equal_content"]:
        if content["num_clips"]:
            what = f"have {content['title']} ({content['num_sets']} different ones)"
            same = f"{content['num_clips']} {noun.many} in files that differ {what}"
            pairs.append((same, "remove all but one of each; a training may be tested on what it was trained on"))
    if found["num_under_two_labels"]:
        mixed = f"{found['num_under_two_labels']} {noun.many} are there under another label too"
        pairs.append((mixed, "decide on one label for each"))
    return pairs


def _groups(groups: dict[str, Any] | None, noun: Noun) -> Pairs:
    if groups is None:
        advice = "add one to the metadata, named by --evaluation.group-column; figures may be too good for others"
        return [("No column says who speaks", advice)]
    pairs, column, several = [], groups["column"], groups["num_groups"] > 1
    if several and groups["is_guess"]:
        advice = f"--evaluation.group-column {column} keeps each on one side of a test; figures are too good without"
        pairs.append((f"The column {column!r} has {groups['num_groups']} values, which may be who speaks", advice))
    if groups["num_groups"] == 1:
        pairs.append((f"All {noun.many} are of one {column}", "expect less of others than the figures say"))
    if groups["num_without"]:
        advice = "fill it in; until then each counts as of one of its own"
        pairs.append((f"{groups['num_without']} {noun.many} have no {column}", advice))
    if several and groups["one_group"]:
        named = _counted(list(groups["one_group"]), f"of one {column} alone")
        pairs.append((named, f"add {noun.many} of others; a classifier could learn the {column} instead"))
    return pairs


def _telling(facts: Sequence[dict[str, Any]], noun: Noun) -> Pairs:
    """Categories that say what the label is."""
    pairs = []
    for fact in facts:
        for label, value in list(fact.get("telling", {}).items())[:_MOST_ALIKE]:
            kind = f"{fact['title']} {value} {fact['unit']}".rstrip()
            advice = f"record or convert all labels alike; a classifier could learn the {fact['title']} instead"
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


def _limit(found: dict[str, Any], noun: Noun) -> Pairs:
    limit, total = ProcessingConfig().limit, found["total"] or found["num_clips"]
    if limit is None or total <= limit or found["no_labels"]:
        return []
    return [(f"A training takes the first {limit} of {total} {noun.many}", "--processing.max-samples all takes all")]
