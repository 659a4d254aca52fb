"""The script that checks what the C comments say about orderings, on the sources and on faults."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
CSRC, MODELS = ROOT / "csrc", ROOT / "docs" / "design" / "models"


@pytest.fixture(scope="module")
def edges() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edges", ROOT / "tests" / "c" / "edges.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["edges"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CSRC, tmp_path / "csrc"))


def test_the_sources_keep_the_rules(edges: ModuleType) -> None:
    assert list(map(str, edges.check(CSRC, MODELS))) == []


def test_every_ordered_operation_is_looked_at(edges: ModuleType) -> None:
    text = "".join(path.read_text() for path in CSRC.glob("*.[ch]") if "atomic" not in path.name)
    sources = [edges.Source(path) for path in CSRC.glob("*.[ch]") if "atomic" not in path.name]
    seen = sum(len(list(source.operations())) for source in sources)
    order = r"\b(zoo_\w+_(?:relaxed|acquire|release|seq_cst))\("
    names = set(re.findall(order, (CSRC / "zoo_atomic.h").read_text()))
    assert seen == sum(name in names for name in re.findall(order, text))


def replace(name: str, old: str, new: str, *, every: bool = False) -> Callable[[Path], None]:
    def change(csrc: Path) -> None:
        path = csrc / name
        text = path.read_text()
        assert old in text, f"{name} has no {old!r} any more"
        path.write_text(text.replace(old, new) if every else text.replace(old, new, 1))

    return change


END = "zoo_fence_seq_cst();\n}"


def more(operation: str) -> str:
    return f"\n\nvoid more(zoo_word *at)\n{{\n    {operation}(at, 1);\n}}"


FAULTS = {
    "one end is not cited": (
        replace("zoo_event.c", "/* E15/A */", "/* looks */"),
        r"zoo_event\.c:\d+: E15 lacks E15/A",
    ),
    "the other end is not cited": (
        replace("zoo_event.c", "/* E15/R */", "/* done */"),
        r"zoo_event\.c:\d+: E15 lacks E15/R",
    ),
    "a race is not cited": (
        replace("zoo_index.c", "E7", "it", every=True),
        r"zoo_index\.c:\d+: an operation \(seq_cst\) that cites no edge",
    ),
    "an edge is defined twice": (
        replace("zoo_hlc.c", " */\n", " *  E15  this -> that\n */\n"),
        r"E15 is defined in zoo_\w+\.c:\d+ already",
    ),
    "an edge has no direction": (
        replace("zoo_event.c", "its number -> its number", "its number, its number"),
        r"E15 has neither -> nor <->",
    ),
    "what is cited is not defined": (
        replace("zoo_event.c", "/* E15/A */", "/* E15/A E99/A */"),
        r"zoo_event\.c:\d+: E99 is defined nowhere",
    ),
    "a release without an edge": (
        replace("zoo_tag.c", END, END + more("zoo_store_release")),
        r"zoo_tag\.c:\d+: an operation \(release\) that cites no edge",
    ),
    "a relaxed operation without a reason": (
        replace("zoo_tag.c", END, END + more("zoo_store_relaxed")),
        r"zoo_tag\.c:\d+: a relaxed operation that says nowhere why",
    ),
    "a memory order elsewhere": (
        replace("zoo_tag.c", "zoo_fence_seq_cst();", "atomic_thread_fence(memory_order_seq_cst);"),
        r"zoo_tag\.c:\d+: a memory order outside of zoo_atomic\.h",
    ),
    "volatile": (
        replace("zoo_tag.c", "uint64_t newest = 0;", "volatile uint64_t newest = 0;"),
        r"zoo_tag\.c:\d+: volatile orders nothing",
    ),
    "a step of no model": (
        replace("zoo_reap.c", "/* N15; E12/A */", "/* N95; E12/A */"),
        r"zoo_reap\.c:\d+: N95 is a step of no model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, edges: ModuleType, copy: Path) -> None:
    change, told = FAULTS[fault]
    change(copy)
    found = "\n".join(map(str, edges.check(copy, MODELS)))
    assert re.search(told, found), found
