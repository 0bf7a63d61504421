"""A recipe's files and steps drawn, as text and as a Mermaid flowchart (mermaid.js.org)."""

from __future__ import annotations

from collections.abc import Iterator

from sshmap.recipe.flow import Flow


def text(flow: Flow) -> str:
    """Draw files and steps as a tree, each below what it is made from."""
    return "\n".join(
        line for files in flow.files for line in (f"{files.name}  files {files.pattern}", *_below(flow, files.name, ""))
    )


def _below(flow: Flow, name: str, indent: str) -> Iterator[str]:
    made = [step for step in flow.steps if step.source == name]
    for step in made:
        last = step is made[-1]
        yield f"{indent}{'└─' if last else '├─'} {step.name}  {step.verb.value}"
        yield from _below(flow, step.name, indent + ("   " if last else "│  "))


def mermaid(flow: Flow) -> str:
    """Write files and steps as a flowchart; each arrow is a step's verb."""
    lines = [f'    {files.name}[("{files.name}")]' for files in flow.files]
    lines += [f"    {step.source} -->|{step.verb.value}| {step.name}" for step in flow.steps]
    return "\n".join(["flowchart TD", *lines])
