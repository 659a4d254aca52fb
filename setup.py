# Two extensions are built from csrc/: cffi's, by build_ffi.py, which has the core in it, and the
# door of the hot operations (csrc/python/), which calls that. Everything else is in pyproject.toml.
from __future__ import annotations

import sysconfig
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).parent
# A build without the GIL has no stable ABI yet.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")


def sources(pattern: str) -> list[str]:
    return sorted(str(path.relative_to(HERE)) for path in HERE.glob(pattern))


door = Extension(
    "zoocache.shm._door",
    sources=sources("csrc/python/*.c"),
    depends=sources("csrc/zoo_*.h") + sources("csrc/python/*.h"),
    include_dirs=["csrc"],
    define_macros=[("_GNU_SOURCE", None)] + [("Py_LIMITED_API", "0x030a0000")] * LIMITED,
    extra_compile_args=["-std=c11", "-O3", "-fvisibility=hidden", "-pthread"],
    libraries=["rt", "pthread"],
    py_limited_api=LIMITED,
)

setup(cffi_modules=["build_ffi.py:ffi"], ext_modules=[door])
