"""Builds the extension `zoocache.shm._zoocore` from csrc/, in cffi's API mode."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from cffi import FFI

if sys.platform != "linux" or platform.machine().lower() not in {
    "x86_64",
    "amd64",
    "aarch64",
    "arm64",
}:
    sys.exit(
        f"zoocache supports Linux on x86-64 and arm64, not {sys.platform} on {platform.machine()}."
    )

# setuptools wants paths relative to the project's root, which is where it runs this file.
CSRC = Path("csrc")

ffi = FFI()
ffi.cdef((Path(__file__).parent / CSRC / "zoo_api.h").read_text())
ffi.set_source(
    "zoocache.shm._zoocore",
    '#include "zoo_layout.h"',
    sources=[str(CSRC / p.name) for p in sorted((Path(__file__).parent / CSRC).glob("zoo_*.c"))],
    depends=[str(CSRC / p.name) for p in sorted((Path(__file__).parent / CSRC).glob("zoo_*.h"))],
    include_dirs=[str(CSRC)],
    define_macros=[("_GNU_SOURCE", None)],
    extra_compile_args=["-std=c11", "-O3", "-fvisibility=hidden", "-pthread"],
    libraries=["rt", "pthread"],
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
