"""The description of a dataset: on one HTML page, and in lines for a terminal.

Draws whatever facts there are, in the words of their modality. Names of examples, labels and groups are other people's
text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from golem_ray.config import Noun
from golem_ray.embedding.modality import Modality
from golem_ray.errors import printable
from golem_ray.report.counts import count_lines, count_table
from golem_ray.report.distributions import draw_boxes, draw_counts, draw_crossed, draw_histogram
from golem_ray.report.html import assemble, cell, escape, section, table
from golem_ray.report.together import label_numbers, labels_in_words, pair_lines, sets_in_words, together_parts

MOST_CROSSED = 40
"""Most labels, and most groups, that a drawing of each with each shows."""

_SHOWN = ("number", "category", "flag", "counts")

_MOST_BARS, _MOST_ROWS = 100, 50

_MOST_LINES, _MOST_COUNTED = 8, 5
"""Labels, and values of a category, that a terminal shows."""


def render_description(found: dict[str, Any], modality: Modality) -> str:
    """The page, from a description."""
    noun, origin = modality.content.noun, modality.origins.heading
    many = noun.many.capitalize()
    drawings: dict[str, dict[str, Any]] = {}
    parts = [
        f"<h1>What is in {escape(found['dataset'])}</h1>",
        _listed(_heading(found, noun, origin)),
        _findings(found),
    ]
    facts = {kind: [fact for fact in found["facts"] if fact["kind"] == kind] for kind in _SHOWN}
    if found["labels"]:
        shown = sorted(found["labels"], key=lambda each: -each["num_clips"])[:_MOST_BARS]
        drawings["labels"] = draw_counts([each["label"] for each in shown], [each["num_clips"] for each in shown], noun)
        more = (
            f" The {_MOST_BARS} largest of {len(found['labels'])} labels." if len(shown) < len(found["labels"]) else ""
        )
        counted = " One of several labels counts for each." if "several" in found else ""
        parts.append(section(f"{many} per label", f"{many} that can be used.{counted}{more}", "labels"))
    if "several" in found:
        parts += together_parts(found, drawings, noun)
    for fact in facts["number"]:
        if fact["quantiles"] is not None:
            drawings[f"{fact['key']}-all"] = draw_histogram(fact["histogram"], _named(fact), noun)
            parts.append(section(escape(_capital(fact["title"])), _number_words(fact, noun), f"{fact['key']}-all"))
            parts += _by_label(fact, found["labels"], drawings, noun)
    rows = [[cell(_capital(_named(fact))), cell(_counted(fact, _MOST_ROWS))] for fact in facts["category"]]
    parts.append(f"<h2>Kinds of {noun.many}</h2>\n{table(['', f'{many} of each'], rows)}")
    parts += _groups(found, drawings, noun, origin)
    parts += [_flagged(fact, noun) for fact in facts["flag"] if fact["num_clips"]]
    files = noun.many if modality.content.inline else "files"
    parts += [_copies(f"Equal {files}", found["equal_files"], noun)]
    hows = {fact.title: fact.how for fact in modality.facts}
    for each in found["equal_content"]:
        title = f"Different {files} that have {each['title']}"
        parts.append(_copies(title, each, noun, hows.get(each["title"], "")))
    parts.append(_unusable(found, noun))
    parts += [count_table(fact) for fact in facts["counts"] if fact["counts"]]
    return assemble(f"What is in {found['dataset']}", parts, drawings)


def _listed(entries: dict[str, str]) -> str:
    listed = "\n".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in entries.items())
    return f"<dl>\n{listed}\n</dl>"


def _heading(found: dict[str, Any], noun: Noun, origin: str) -> dict[str, str]:
    """What was described, in a few entries."""
    total, num_clips = found["total"], found["num_clips"]
    of = f"the first {num_clips} of {total}" if total and total > num_clips else str(num_clips)
    entries = {noun.many.capitalize(): f"{of}, {found['num_usable']} can be used", "Split": _splits(found)}
    if found["labels"]:
        entries["Labels"] = labels_in_words(found, noun) if "several" in found else f"{len(found['labels'])}"
    for fact in found["facts"]:
        if fact["is_size"] and fact["quantiles"]:
            entries[_capital(fact["title"])] = f"{_large(fact['quantiles']['total'], fact['unit'])} in all"
    if found["groups"]:
        entries[origin] = _group_words(found["groups"])
    return entries


def _splits(found: dict[str, Any]) -> str:
    others = found["other_splits"]
    return found["split"] + (f" (there is also {', '.join(others)})" if others else "")


def _group_words(groups: dict[str, Any]) -> str:
    guess = ", a guess" if groups["is_guess"] else ""
    return f"{groups['num_groups']} values of the column {groups['column']!r}{guess}"


def _large(total: float, unit: str) -> str:
    """A sum with its unit; seconds beyond a few minutes in minutes or hours."""
    if unit != "s" or total < 300:
        return f"{_short(total)} {unit}".rstrip()
    return f"{total / 60:.1f} min" if total < 2 * 3600 else f"{total / 3600:.1f} h"


def _short(value: float) -> str:
    """Three digits or more: `0.144`, `24.3`, `1310`."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _named(fact: dict[str, Any]) -> str:
    return fact["title"] + (f" ({fact['unit']})" if fact["unit"] else "")


def _findings(found: dict[str, Any]) -> str:
    if not found["findings"]:
        return "<h2>What to do</h2>\n<p>Nothing stands out.</p>"
    items = "\n".join(f"<li>{escape(each['finding'])}: {escape(each['advice'])}.</li>" for each in found["findings"])
    return f"<h2>What to do</h2>\n<ul>\n{items}\n</ul>"


def _number_words(fact: dict[str, Any], noun: Noun) -> str:
    quantiles = {key: _short(value) for key, value in fact["quantiles"].items()}
    words = f"{quantiles['min']} to {quantiles['max']} {fact['unit']}".rstrip()
    words += f", half of the {noun.many} from {quantiles['q1']} to {quantiles['q3']}, median {quantiles['median']}. "
    words += fact["how"]
    outside = fact["quantiles"]["max"] > fact["histogram"]["edges"][-1]
    return f"{words.rstrip()}{' The last bar holds also what lies beyond.' if outside else ''}"


def _by_label(
    fact: dict[str, Any], labels: Sequence[dict[str, Any]], drawings: dict[str, Any], noun: Noun
) -> list[str]:
    """A drawing of a size for each label, where they are few."""
    held = [each for each in labels if each.get(fact["key"])]
    if not fact["is_size"] or not held or len(held) > MOST_CROSSED:
        return []
    names, quantiles = [each["label"] for each in held], [each[fact["key"]] for each in held]
    drawings[f"{fact['key']}-labels"] = draw_boxes(names, quantiles, _named(fact))
    held_by = f"The box holds the middle half of a label's {noun.many}"
    words = f"{held_by}, the line in it their median, its whiskers all of them."
    return [section(f"{escape(_capital(fact['title']))} by label", words, f"{fact['key']}-labels")]


def _counted(fact: dict[str, Any], most: int) -> str:
    """`16000 (120), 8000 (4)`, at most so many."""
    counts = list(fact["counts"].items())
    more = f" and {len(counts) - most} more" if len(counts) > most else ""
    return ", ".join(f"{value} ({count})" for value, count in counts[:most]) + more


def _groups(found: dict[str, Any], drawings: dict[str, Any], noun: Noun, origin: str) -> list[str]:
    groups = found["groups"]
    if groups is None or not groups["num_groups"]:
        return []
    without = f"; {groups['num_without']} {noun.many} have none" if groups["num_without"] else ""
    words = f"{_group_words(groups)}{without}."
    if groups["crossed"] is not None:
        names = list(groups["largest"])
        drawings["groups"] = draw_crossed(groups["crossed"], [each["label"] for each in found["labels"]], names, noun)
        return [section(origin, f"{words} Rows are labels, shades are numbers of {noun.many}.", "groups")]
    largest = list(groups["largest"].items())
    drawings["groups"] = draw_counts([name for name, _ in largest], [count for _, count in largest], noun)
    more = f" The {len(largest)} with most {noun.many}." if groups["num_groups"] > len(largest) else ""
    return [section(origin, words + more, "groups")]


def _flagged(fact: dict[str, Any], noun: Noun) -> str:
    title = f"<h2>{noun.many.capitalize()} that are {escape(fact['title'])}: {fact['num_clips']}</h2>"
    note = f'<p class="note">{escape(fact["how"])}</p>' if fact["how"] else ""
    named = table([noun.one.capitalize()], [[cell(name)] for name in fact["clips"]])
    return f"{title}\n{note}{named}{_more(fact['num_clips'], len(fact['clips']))}"


def _more(total: int, listed: int) -> str:
    return f"<p>And {total - listed} more.</p>" if total > listed else ""


def _copies(title: str, copies: dict[str, Any], noun: Noun, how: str = "") -> str:
    if not copies["num_sets"]:
        return ""
    rows = []
    for each in copies["sets"]:
        names = ", ".join(each["clips"])
        more = f" and {each['num_clips'] - len(each['clips'])} more" if each["num_clips"] > len(each["clips"]) else ""
        labels = sets_in_words(each["label_sets"]) if "label_sets" in each else ", ".join(each["labels"])
        rows.append([cell(names + more), cell(labels)])
    words = f"{copies['num_clips']} {noun.many}, {copies['num_sets']} different ones. {how}".rstrip()
    note = f'<p class="note">{escape(words)}</p>'
    more = _more(copies["num_sets"], len(rows))
    return f"<h2>{escape(title)}</h2>\n{note}{table([noun.many.capitalize(), 'Labels'], rows)}{more}"


def _unusable(found: dict[str, Any], noun: Noun) -> str:
    if not found["bad"]:
        return ""
    rows = [[cell(each["clip"]), cell(each["reason"])] for each in found["bad"][:_MOST_ROWS]]
    one, many = (word.capitalize() for word in noun)
    title = f"<h2>{many} that cannot be used: {len(found['bad'])}</h2>"
    return f"{title}\n{table([one, 'Reason'], rows)}{_more(len(found['bad']), len(rows))}"


def summary(found: dict[str, Any], modality: Modality) -> str:
    """The description in words and tables for a terminal, some twenty lines."""
    noun = modality.content.noun
    heading = _heading(found, noun, modality.origins.heading)
    lines = [found["dataset"], *(f"{key + ':':12} {value}" for key, value in heading.items()), ""]
    lines.append(f"{'':24} {'smallest':>9} {'median':>9} {'largest':>9}")
    for fact in (fact for fact in found["facts"] if fact["kind"] == "number" and fact["quantiles"]):
        shown = " ".join(f"{_short(fact['quantiles'][key]):>9}" for key in ("min", "median", "max"))
        lines.append(f"{_named(fact):24} {shown}")
    for fact in (fact for fact in found["facts"] if fact["kind"] == "category"):
        lines.append(f"{_named(fact):24} {_counted(fact, _MOST_COUNTED)}")
    for fact in (fact for fact in found["facts"] if fact["kind"] == "counts" and fact["counts"]):
        lines += count_lines(fact)
    if "several" in found:
        lines.append(f"{f'labels of a {noun.one}':24} {label_numbers(found['several'])}")
    lines += _label_lines(found, noun)
    if "several" in found:
        lines += pair_lines(found["several"], noun)
    if found["findings"]:
        lines += ["", *(f"- {each['finding']}: {each['advice']}." for each in found["findings"])]
    return "\n".join(printable(line) for line in lines)


def _label_lines(found: dict[str, Any], noun: Noun) -> list[str]:
    """A table of the labels, those with most examples first."""
    if not found["labels"]:
        return []
    sizes = [fact for fact in found["facts"] if fact["is_size"]]
    groups = found["groups"]
    head = "".join(f" {'median ' + _named(fact):>20}" for fact in sizes) + (
        f" {groups['column']:>12.12}" if groups else ""
    )
    lines = ["", f"{'label':32} {noun.many:>8}{head}"]
    order = sorted(range(len(found["labels"])), key=lambda at: -found["labels"][at]["num_clips"])
    for at in order[:_MOST_LINES]:
        record = found["labels"][at]
        medians = [record[fact["key"]]["median"] if record[fact["key"]] else None for fact in sizes]
        line = f"{printable(record['label']):32.32} {record['num_clips']:8}"
        line += "".join(f" {'' if median is None else _short(median):>20}" for median in medians)
        lines.append(line + (f" {groups['per_label'][at]:12}" if groups else ""))
    if len(order) > _MOST_LINES:
        least = found["labels"][order[-1]]
        lines.append(f"and {len(order) - _MOST_LINES} more labels, down to {least['num_clips']} of {least['label']!r}")
    return lines
