"""What each key means: the docstrings below the fields of the configuration's classes, for --help and for the docs."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache


@cache
def meanings(cls: type) -> dict[str, str]:
    """Name of each field -> its docstring in one line, for fields that have one.

    Read from the class's source, since Python does not keep docstrings of fields.
    """
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            said = ast.literal_eval(after.value)
            found[field.target.id] = " ".join(said.split())
    return found
