"""Makes the site of the files that are read in the repository: what they link to is where it was.

The pages lie where people find them (README.md, docs/, bench/results/), so links between them are
relative to the repository's root. The site has the same tree, and so needs no second set of links.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/*.md",
    "docs/design/**/*.md",
    "docs/pictures/*",
    "bench/results/*.md",
    "bench/results/*.svg",
    "examples/atlas/README.md",
]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.watch = [*config.watch, *(str(ROOT / folder) for folder in ("docs", "bench/results"))]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            source = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, source, abs_src_path=str(path)))
    return files
