# Two extensions are built from csrc/: cffi's, by build_ffi.py, which has the core in it, and the
# door of the hot operations (csrc/python/), which calls that. Everything else is in pyproject.toml.
from __future__ import annotations

import shutil
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

HERE = Path(__file__).parent
# The door's calls (METH_FASTCALL, PyUnicode_AsUTF8AndSize) are in the limited API from 3.10 on, the
# oldest Python that is supported: one wheel serves all, and loses nothing. A build without the GIL
# has no stable ABI yet: it gets a wheel of its own version.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")

# What the sources include beside the compiler's own headers, and the packages that have it.
HEADERS = {
    "stdlib.h": "apt-get install libc6-dev, dnf install glibc-devel or apk add musl-dev",
    "linux/futex.h": "apt-get install linux-libc-dev, dnf install kernel-headers "
    "or apk add linux-headers",
    "Python.h": "apt-get install python3-dev, dnf install python3-devel or apk add python3-dev",
}


def sources(pattern: str) -> list[str]:
    return sorted(str(path.relative_to(HERE)) for path in HERE.glob(pattern))


class BuildExtensions(build_ext):
    """Says in one sentence what is missing, where a compiler would say it in a hundred lines."""

    def build_extensions(self) -> None:
        command = self.compiler.compiler_so[0]
        if shutil.which(command) is None:
            packages = "apt-get install gcc, dnf install gcc or apk add gcc"
            missing(f"there is no C compiler ({command})", packages)
        for header, packages in HEADERS.items():
            if not self.has(header):
                missing(f"its C compiler does not find {header}", packages)
        super().build_extensions()

    def has(self, header: str) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(f"#include <{header}>\n")
            try:
                self.compiler.compile(
                    [str(source)],
                    folder,
                    include_dirs=self.include_dirs,
                    extra_postargs=["-fsyntax-only"],  # nothing else can be missing then
                )
            except CompileError:
                return False
            return True


def missing(what: str, packages: str) -> None:
    raise SystemExit(f"zoocache has to be compiled on this machine, and {what}: {packages}.")


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

setup(
    cffi_modules=["build_ffi.py:ffi"],
    ext_modules=[door],
    cmdclass={"build_ext": BuildExtensions},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if LIMITED else {},
)
