"""What to do where a classifier's figures do not show that it is worth something: at most three lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from golem_ray.config import Noun
from golem_ray.embedding.modality import Baseline

_MOST_TIMES = 64
"""How many times as many examples an estimate says at most: further, a straight line says nothing."""


def advice(
    metrics: dict[str, Any], baseline: Baseline, encoders: Sequence[str], noun: Noun, *, encoder: str, is_chosen: bool
) -> list[str]:
    """Lines for a training's metrics, as a sidecar has them; none where nothing is wrong.

    `encoders` are names to try, `encoder` the one that was used; is_chosen says that layer, pooling and head were left
    to choose.
    """
    found = _figures(metrics, baseline.key)
    if found is None:
        return []
    accuracy, (low, _), rival = found
    several = "mean_rate" in metrics
    chance = metrics["mean_rate"] if several else metrics["chance"]
    by_chance, beaten = low <= chance, rival is not None and rival >= accuracy
    if not by_chance and not beaten:
        return []
    wrong = []
    if by_chance:
        by = f"These {noun.many} do not show that it recognises anything"
        interval = "the interval of its mean average precision" if several else "its interval"
        wrong.append(f"{by}: {interval} holds chance, {chance:.1%}.")
    if beaten:
        wrong.append(
            f"{baseline.name[0].upper()}{baseline.name[1:]} do as well or better "
            f"({'mean average precision ' if several else ''}{rival:.1%} against {accuracy:.1%}): "
            f"what tells the {'labels' if several else 'classes'} apart is not in these vectors of the encoder."
        )
    others = " or ".join(f"--model.feature-extractor-model {name}" for name in encoders if name != encoder)
    both = ", and may join both" if baseline.size else ""
    choose = "" if is_chosen else f"--auto, which chooses layer, pooling and head{both}; "
    return [
        " ".join(wrong),
        f"What may help: {choose}another encoder ({others}).",
        *_more(metrics, by_chance, noun.many),
    ]


def _figures(metrics: dict[str, Any], key: str) -> tuple[float, list[float], float | None] | None:
    """Accuracy, its interval and the baseline's accuracy: of the examples held out, else of the cross-validation."""
    scores, figure = metrics.get("evaluation"), "mean_average_precision" if "mean_rate" in metrics else "accuracy"
    if scores and "figures" in scores:
        own, rival = scores["figures"].get(figure), scores["baselines"][key].get(figure)
        return None if own is None or rival is None else (own["value"], own["interval_95"], rival["value"])
    scores = metrics["cross_validation"]
    if scores is None:
        return None
    if "mean_rate" in metrics:
        own, rival = scores["figures"].get(figure), scores.get("baseline", {}).get("figures", {}).get(figure)
        return None if own is None else (own["value"], own["interval_95"], rival and rival["value"])
    return scores["accuracy"], scores["interval_95"], scores.get("baseline", {}).get("accuracy")


def _more(metrics: dict[str, Any], by_chance: bool, many: str) -> list[str]:
    """A line that says how many examples would do, by what the second half of them brought."""
    scores = metrics["cross_validation"]
    growth = scores and scores.get("growth")
    if not growth:
        return []
    accuracy, number = scores["accuracy"], scores["num_clips"]
    gain, of_baseline = growth["encoder"], growth["baseline"]
    seen = f"From half of the {many} to all of them accuracy went from {accuracy - gain:.1%} to {accuracy:.1%}"
    times = _times(accuracy, gain, number, metrics["chance"]) if by_chance else _overtaking(scores, gain, of_baseline)
    if times is None:
        return [f"{seen}: more {many} alone are not seen to help."]
    if times > _MOST_TIMES:
        return [f"{seen}: more than {_MOST_TIMES} times as many would be needed, at that rate."]
    return [f"{seen}: at that rate some {math.ceil(times * number)} {many} would do, {times:.1f} times as many."]


def _times(accuracy: float, gain: float, number: int, chance: float) -> float | None:
    """How many times as many examples make the interval of an accuracy exclude chance; None if none do."""
    for step in range(1, 8 * int(math.log2(_MOST_TIMES)) + 2):
        times = 2 ** (step / 8)
        value = min(1.0, accuracy + gain * step / 8)
        if value > chance and value - 1.96 * math.sqrt(value * (1 - value) / (times * number)) > chance:
            return times
    return None if accuracy <= chance and gain <= 0 else _MOST_TIMES + 1.0


def _overtaking(scores: dict[str, Any], gain: float, of_baseline: float | None) -> float | None:
    """How many times as many examples make a classifier overtake the baseline; None if it gains no faster."""
    if "baseline" not in scores or of_baseline is None or gain <= of_baseline:
        return None
    behind = scores["baseline"]["accuracy"] - scores["accuracy"]
    return float(2 ** min(max(behind, 0.0) / (gain - of_baseline), 60))
