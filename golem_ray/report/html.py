"""The parts of every HTML page: one self-contained file with Plotly's drawings, readable on a phone.

Plotly's library is in the page, which opens anywhere, with no network, and lets no script run but its own. Names of
examples and classes are other people's text: they are escaped wherever they stand.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape as html_escape
from typing import Any

from golem_ray.errors import printable

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 0 auto; padding: 1rem; max-width: 60rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h1, p, dd, li { overflow-wrap: anywhere; } td { overflow-wrap: break-word; min-width: 5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dt { color: #555; } dd { margin: 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
th { font-weight: 600; } th:first-child, td:first-child { min-width: 8rem; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.note { color: #555; font-size: .9rem; } .player { width: 14rem; max-width: 100%; }
.text, .moved { min-width: 12rem; overflow-wrap: anywhere; }
.text { max-height: 12rem; overflow-y: auto; white-space: pre-line; }
mark { color: inherit; }
"""


_DRAW = """
const figures = JSON.parse(document.getElementById("figures").textContent);
for (const [id, figure] of Object.entries(figures)) {
  Plotly.newPlot(id, figure.data, figure.layout, {responsive: true, displayModeBar: false});
}
"""


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="golem_ray">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<script type="application/json" id="figures">{figures}</script>
<script>{plotly}</script>
<script>{draw}</script>
</body>
</html>
"""


def escape(text: str) -> str:
    """Other people's text as HTML; what would turn the text around it to another direction shows as `\\u202e`."""
    return html_escape(printable(text))


def assemble(title: str, parts: Sequence[str], drawings: Mapping[str, dict[str, Any]]) -> str:
    """The page, from the HTML parts of its body and Plotly's figures by the id of their element."""
    from plotly.offline import get_plotlyjs

    plotly = get_plotlyjs()
    return _PAGE.format(
        policy=_policy(plotly, _DRAW),
        title=escape(title),
        style=_STYLE,
        body="\n".join(parts),
        figures=_json(drawings),
        plotly=plotly,
        draw=_DRAW,
    )


def _policy(*scripts: str) -> str:
    """The page's content security policy: it allows these scripts, the page's own style, and its own data."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; media-src data:"


def _json(value: object) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def section(title: str, words: str, drawing: str) -> str:
    """A heading, words below it, and the place of a drawing."""
    return f'<h2>{title}</h2>\n<p class="note">{escape(words)}</p>\n<div id="{drawing}"></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, its rows of cells that are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="wide"><table>\n<tr>{top}</tr>\n{body}\n</table></div>'


def cell(text: str) -> str:
    """A table's cell."""
    return f"<td>{escape(text)}</td>"


def number(text: str) -> str:
    """A table's cell with a number."""
    return f'<td class="number">{escape(text)}</td>'
