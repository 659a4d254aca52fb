"""Checks what the comments of csrc/ say about orderings: `python3 tests/c/edges.py [csrc]`.

- An edge is defined once, in the opening comment of a .c file: `E3  ... -> ...`,
  or `E7  ... <-> ...` for a store-load race that sequential consistency closes.
- A `->` is cited at both ends: `E3/R` where it is released, `E3/A` where it is
  acquired. A `<->` is cited at two places or more.
- What is cited is defined.
- Every acquire, release and seq_cst operation cites an edge near it or above its
  function, or says "no edge:" and why it needs none.
- Every relaxed operation has a comment near it that says why, or one in its
  function that begins with "Relaxed".
- Steps of the models (N3, F7, T8) that are cited are steps of a model in docs/design/models/.
- Memory orders are named in zoo_atomic.h only, and nothing is volatile but an asm.

"Near" is the same line, the three before it, or the next one, within the function.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

OPERATION = re.compile(
    r"\bzoo_(?:load|store|cas|add|or|and|exchange|max|fence)_(relaxed|acquire|release|seq_cst)\("
)
DEFINITION = re.compile(r"^ \*  E(\d+) +.*")
CITATION = re.compile(r"\bE(\d+)(?:/([RA]))?")
STEP = re.compile(r"\b([NFT]\d+)\b")
BEFORE, AFTER = 3, 1


class Fault(NamedTuple):
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


class Edge(NamedTuple):
    path: str
    line: int
    is_race: bool


class Source:
    """One file: its opening comment, and which lines belong to which function."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.lines = path.read_text().splitlines()
        self.opening = next((i for i, text in enumerate(self.lines) if text.endswith("*/")), -1)
        self.comments = self._comments()

    def _comments(self) -> list[str]:
        """The part of each line that is comment."""
        found, inside = [], False
        for text in self.lines:
            part, at = "", 0
            while at < len(text):
                if inside:
                    end = text.find("*/", at)
                    part += text[at : end if end >= 0 else len(text)]
                    inside, at = end < 0, end + 2 if end >= 0 else len(text)
                else:
                    start = text.find("/*", at)
                    inside, at = start >= 0, start + 2 if start >= 0 else len(text)
            found.append(part + (" " if inside and not part else ""))
        return found

    def operations(self) -> Iterator[tuple[int, str]]:
        for i, text in enumerate(self.lines):
            for match in OPERATION.finditer(text):
                if i > self.opening:
                    yield i, match[1]

    def near(self, at: int) -> str:
        first, last = self.function(at)
        return " ".join(self.comments[max(first, at - BEFORE) : min(last, at + AFTER) + 1])

    def function(self, at: int) -> tuple[int, int]:
        """Its first and last line."""
        first = next((i for i in range(at, -1, -1) if self.lines[i] == "{"), 0)
        last = next(
            (i for i in range(at, len(self.lines)) if self.lines[i] == "}"), len(self.lines)
        )
        return first, last

    def above(self, at: int) -> str:
        """The comment above its function."""
        first, _ = self.function(at)
        text = []
        for i in range(first - 1, self.opening, -1):
            if not self.lines[i].strip() or self.lines[i] in ("}", "};"):
                break
            text.append(self.comments[i])
        return " ".join(reversed(text))

    def inside(self, at: int) -> str:
        first, last = self.function(at)
        return "\n".join(self.comments[first : last + 1])


def check(csrc: Path, models: Path | None = None) -> list[Fault]:
    """What is wrong in the sources of a folder."""
    sources = [Source(path) for path in sorted(csrc.glob("*.[ch]")) if path.name != "zoo_atomic.h"]
    edges, faults = _edges(sources)
    faults += _citations(sources, edges)
    for source in sources:
        faults += _operations(source)
        faults += _words(source)
    return sorted(faults + _steps(sources, models))


def _edges(sources: list[Source]) -> tuple[dict[str, Edge], list[Fault]]:
    edges: dict[str, Edge] = {}
    faults = []
    for source in sources:
        for i, text in enumerate(source.lines[: source.opening + 1]):
            match = DEFINITION.match(text)
            if match is None:
                continue
            whole = text + source.lines[i + 1]
            if match[1] in edges:
                known = edges[match[1]]
                told = f"E{match[1]} is defined in {known.path}:{known.line} already"
                faults.append(Fault(source.name, i + 1, told))
            elif "->" not in whole:
                faults.append(Fault(source.name, i + 1, f"E{match[1]} has neither -> nor <->"))
            else:
                edges[match[1]] = Edge(source.name, i + 1, "<->" in whole)
    return edges, faults


def _citations(sources: list[Source], edges: dict[str, Edge]) -> list[Fault]:
    cited: dict[str, list[str]] = {}
    faults = []
    for source in sources:
        for i, comment in enumerate(source.comments):
            if i <= source.opening:
                continue
            for number, end in CITATION.findall(comment):
                cited.setdefault(number, []).append(end)
                if number not in edges:
                    faults.append(Fault(source.name, i + 1, f"E{number} is defined nowhere"))
    for number, edge in edges.items():
        ends = cited.get(number, [])
        if edge.is_race:
            missing = [] if len(ends) >= 2 else ["two citations"]
        else:
            missing = [f"E{number}/{end}" for end in "RA" if end not in ends]
        if missing:
            told = f"E{number} lacks {' and '.join(missing)}"
            faults.append(Fault(edge.path, edge.line, told))
    return faults


def _operations(source: Source) -> Iterator[Fault]:
    for i, order in source.operations():
        near, above = source.near(i), source.above(i)
        if order == "relaxed":
            reasoned = near.strip() or re.search(r"\bRelaxed\b", source.inside(i) + above)
            reasoned = reasoned or "so relaxed" in above
            told = "a relaxed operation that says nowhere why"
        else:
            reasoned = CITATION.search(near + above) or "no edge:" in near + above
            told = f"an operation ({order}) that cites no edge, nor says why it needs none"
        if not reasoned:
            yield Fault(source.name, i + 1, told)


def _words(source: Source) -> Iterator[Fault]:
    for i, text in enumerate(source.lines):
        code = re.sub(r"/\*.*?(?:\*/|$)", "", text)
        if "memory_order" in code:
            yield Fault(source.name, i + 1, "a memory order outside of zoo_atomic.h")
        if re.search(r"\bvolatile\b", code) and "asm" not in code and not source.comments[i]:
            yield Fault(source.name, i + 1, "volatile orders nothing: use a zoo_word")


def _steps(sources: list[Source], models: Path | None) -> list[Fault]:
    if models is None:
        return []
    known = set(STEP.findall("\n".join(path.read_text() for path in models.glob("*.pml"))))
    return [
        Fault(source.name, i + 1, f"{step} is a step of no model")
        for source in sources
        for i, comment in enumerate(source.comments)
        for step in STEP.findall(comment)
        if step not in known
    ]


def main() -> int:
    root = Path(__file__).parents[2]
    csrc = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "csrc"
    faults = check(csrc, root / "docs" / "design" / "models")
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
