"""A recipe's files and steps drawn, as text and as a Mermaid flowchart (mermaid.js.org); and its table, as bars."""

from __future__ import annotations

from collections.abc import Iterator

from sshmap.recipe.flow import Flow

#: parts of a character that is filled from the left
_EIGHTHS = " ▏▎▍▌▋▊▉"


def text(flow: Flow) -> str:
    """Draw files and steps as a tree, each below what it is made from."""
    return "\n".join(
        line for files in flow.files for line in (f"{files.name}  files {files.called}", *_below(flow, files.name, ""))
    )


def _below(flow: Flow, name: str, indent: str) -> Iterator[str]:
    made = [step for step in flow.steps if step.source == name]
    for step in made:
        last = step is made[-1]
        needs = f", with {', '.join(step.needs)}" if step.needs else ""
        yield f"{indent}{'└─' if last else '├─'} {step.name}  {step.verb.value}{needs}"
        yield from _below(flow, step.name, indent + ("   " if last else "│  "))


def mermaid(flow: Flow) -> str:
    """Write files and steps as a flowchart; each arrow is a step's verb."""
    lines = [f'    {files.name}[("{files.name}")]' for files in flow.files]
    lines += [f"    {step.source} -->|{step.verb.value}| {step.name}" for step in flow.steps]
    lines += [f"    {name} -.-> {step.name}" for step in flow.steps for name in step.needs]
    return "\n".join(["flowchart TD", *lines])


def bars(labels: list[str], lengths: list[float], width: int = 60, encoding: str = "utf-8") -> str:
    """Draw a bar for each length, the longest as wide as there is room; what is negative has none.

    Args:
        labels: what stands before the bars.
        lengths: how long they are.
        width: characters of the longest.
        encoding: of the output; bars are of # where it has no blocks.
    """
    most, wide = max([*lengths, 0.0]), max([len(label) for label in labels], default=0)
    eighths = [round(8 * width * max(length, 0.0) / most) if most else 0 for length in lengths]
    return "\n".join(
        f"{label:>{wide}} {_bar(count, encoding)}".rstrip() for label, count in zip(labels, eighths, strict=True)
    )


def _bar(eighths: int, encoding: str) -> str:
    bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    try:
        bar.encode(encoding)
    except UnicodeEncodeError:
        return "#" * round(eighths / 8)
    return bar
