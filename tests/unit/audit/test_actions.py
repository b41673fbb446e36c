"""What the audit log holds is told in words on its page, and can be searched for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import hub
from hub.web.actions import ACTION_NAMES, FAMILIES


def recorded() -> Iterator[tuple[str, str]]:
    """(action, file) of every `audit.record` whose action stands in the file itself."""
    for path in sorted(Path(hub.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        named: dict[str, str] = {}
        for node in tree.body:
            target = node.target if isinstance(node, ast.AnnAssign) else None
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                target = node.targets[0]  # type: ignore[assignment]
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            if isinstance(target, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                named[target.id] = value.value
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call) or ast.unparse(call.func) != "audit.record" or len(call.args) < 3:
                continue
            action = call.args[2]
            if isinstance(action, ast.Constant):
                yield str(action.value), path.name
            elif isinstance(action, ast.Name) and action.id in named:
                yield named[action.id], path.name


def test_every_action_has_words_and_a_family() -> None:
    found = list(recorded())
    assert len(found) > 50
    assert [one for one in found if one[0] not in ACTION_NAMES] == []
    assert [one for one in found if not one[0].startswith(tuple(FAMILIES)) and one[0] != "templates.seed"] == []
