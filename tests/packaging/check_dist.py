"""What `make dist` asks of the sdist and the wheel in dist/, before anybody gets them.

Not named test_*, so that only `make dist` runs it, which builds both first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What is there for the repository's sake only.
NOT_IN_SDIST = {".ci/run", ".clang-format", ".gitignore"}
MADE_BY_SETUPTOOLS = {"PKG-INFO", "setup.cfg"}
HERE = "{}.{}".format(*sys.version_info)
OTHERS = sorted({"3.10", "3.11", "3.12", "3.13"} - {HERE})

Paths = tuple[Path, ...]


@pytest.fixture(scope="module")
def sdist() -> Path:
    return only("*.tar.gz")


@pytest.fixture(scope="module")
def wheel() -> Path:
    return only("*.whl")


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


def only(pattern: str) -> Path:
    found = list((ROOT / "dist").glob(pattern))
    assert len(found) == 1, f"make dist builds one {pattern}, there are {found}"
    return found[0]


def tracked(folder: str = ".") -> set[str]:
    listed = run(["git", "ls-files", "-z", "--", folder], ROOT)
    return {name for name in listed.split("\0") if name}


def run(command: list[str | Path], cwd: Path, *, fails: bool = False, **env: str) -> str:
    done = subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr if fails else done.stdout


def new_venv(python: str, folder: Path, *packages: str) -> Path:
    """The Python of a venv with nothing in it but what is named."""
    run([python, "-m", "venv", "--without-pip", folder], folder.parent)
    inside = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", inside, "install", "--quiet", *packages]
    run(pip, folder.parent)
    return inside


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_sdist_has_what_git_tracks_and_nothing_else(unpacked: Path) -> None:
    found = {name for name in files_below(unpacked) if not name.startswith("zoocache.egg-info/")}
    assert found - MADE_BY_SETUPTOOLS == tracked() - NOT_IN_SDIST


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {name for name in names if name.startswith("zoocache/")}
    extensions = {"zoocache/shm/_door.abi3.so", "zoocache/shm/_zoocore.abi3.so"}
    assert package == tracked("zoocache") | extensions
    assert "zoocache/py.typed" in package
    assert {name.split("/")[0] for name in names - package} == {"zoocache-0.1.0.dist-info"}


def test_one_wheel_is_for_every_python(wheel: Path) -> None:
    assert wheel.stem.split("-")[2:4] == ["cp310", "abi3"]


def test_both_carry_licence_and_metadata(wheel: Path, unpacked: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = "zoocache-0.1.0.dist-info"
        in_wheel = archive.read(f"{info}/METADATA")
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert (unpacked / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    for metadata in in_wheel, (unpacked / "PKG-INFO").read_bytes():
        fields = message_from_bytes(metadata)
        assert fields["License-Expression"] == "MIT"
        assert fields["Requires-Python"] == ">=3.10"
        assert "Typing :: Typed" in fields.get_all("Classifier", [])


def test_the_wheel_passes_tests_with_the_sources_away(
    wheel: Path, unpacked: Path, tmp_path: Path
) -> None:
    """In a clean environment, in a folder where there is no zoocache to import by accident."""
    python = new_venv(
        sys.executable, tmp_path / "venv", f"{wheel}[django,drf]", "pytest", "pytest-xdist"
    )
    away = tmp_path / "away"
    away.mkdir()
    shutil.copytree(unpacked / "tests", away / "tests")
    shutil.copy(unpacked / "pyproject.toml", away)
    where = run([python, "-c", "import zoocache; print(zoocache.__file__)"], away)
    assert Path(where.strip()).is_relative_to(tmp_path / "venv")
    print(run([python, "-m", "pytest", "-q", "-n", "2", "@tests/packaging/chosen.txt"], away))


def find_python(version: str) -> str:
    named = shutil.which(f"python{version}")  # perhaps pyenv's, which fails if it is not chosen
    chosen = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for python in [named, *chosen]:
        if python and subprocess.run([python, "-V"], capture_output=True).returncode == 0:
            return str(python)
    pytest.skip(f"there is no Python {version}")


@pytest.mark.parametrize("version", OTHERS)
def test_the_wheel_works_on_every_other_python_that_is_here(
    version: str, wheel: Path, tmp_path: Path
) -> None:
    """The lowest one decides whether a call is in the limited API that the wheel claims."""
    python = new_venv(find_python(version), tmp_path / "venv", str(wheel))
    use = """
import sys
from zoocache.shm import Cache, Segment, unlink
name = sys.argv[1]
cache = Cache(Segment(name, 1 << 20))
try:
    cache.set("key", b"value", ttl=60, tags=["a:b"])
    assert cache.get_many(["key", "no"]) == [b"value", None]
    cache.invalidate("a")
    assert cache.get("key") is None
finally:
    unlink(name)
print("%d.%d" % sys.version_info[:2])
"""
    name = f"test-dist-{os.getpid()}-{version}"
    assert run([python, "-c", use, name], tmp_path).strip() == version
    (Path("/dev/shm") / f"zoocache-{os.geteuid()}-{name}.lock").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that can build the sdist without fetching anything."""
    folder = tmp_path_factory.mktemp("builder") / "venv"
    return new_venv(sys.executable, folder, "setuptools>=77", "cffi", "pip")


BLIND = """#!/bin/sh
# A compiler on a machine where the packages with {header} are not installed.
for argument; do
    case $argument in *.c) grep -q "<{header}>" "$argument" && {{
        echo "fatal error: {header}: No such file or directory" >&2; exit 1; }} ;; esac
done
exec {compiler} "$@"
"""


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (None, "there is no C compiler (gcc): apt-get install gcc, "),
        ("Python.h", "its C compiler does not find Python.h: apt-get install python3-dev, "),
        ("linux/futex.h", "its C compiler does not find linux/futex.h: apt-get install linux-"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(
    header: str | None, sentence: str, builder: Path, sdist: Path, tmp_path: Path
) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for tool in "sh", "grep", "env":
        (bin_folder / tool).symlink_to(shutil.which(tool) or pytest.fail(tool))
    if header:
        gcc = bin_folder / "gcc"
        gcc.write_text(BLIND.format(header=header, compiler=shutil.which("cc")))
        gcc.chmod(0o755)
        sentence = sentence.replace("(gcc)", "")
    command = ["-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-cache-dir", sdist]
    said = run([builder, *command], tmp_path, fails=True, PATH=str(bin_folder), CC="gcc")
    (line,) = [line for line in said.splitlines() if "has to be compiled" in line]
    assert line.strip().startswith(f"zoocache has to be compiled on this machine, and {sentence}")
    assert "Traceback" not in said
