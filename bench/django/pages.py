"""The pages of examples/atlas under gunicorn: requests a second, cached by this or that.

Read by wrk where it is installed (apt-get install wrk), which takes little of
the processor away from the site. Each site has its own database and cache.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from servers import Place

HERE = Path(__file__).parent
SITE = HERE.parents[1] / "examples" / "atlas"
WORKERS, SECONDS = 4, 3
# One page of each kind: an index, two lists, a detail page with its relations, an API.
PATHS = ("/", "/countries/", "/countries/FR/", "/continents/EU/", "/cities/2988507/")

_spec = importlib.util.spec_from_file_location("atlas_server", SITE / "server.py")
assert _spec is not None
assert _spec.loader is not None
server: Any = importlib.util.module_from_spec(_spec)
sys.modules["atlas_server"] = server


def measure(place: Place, rounds: int, missing: dict[str, str]) -> dict[str, float]:
    """Requests a second over all PATHS, medians, by what caches them."""
    if shutil.which("wrk") is None:
        missing["pages under gunicorn"] = "to have them: apt-get install wrk"
        return {}
    assert _spec is not None
    assert _spec.loader is not None
    _spec.loader.exec_module(server)
    ways = {
        "zoocache": {},
        "no cache": {"ZOOCACHE_ENABLED": "0"},
        "django-cacheops": {
            "ZOOCACHE_ENABLED": "0",
            "DJANGO_SETTINGS_MODULE": "cacheops_settings",
            "PYTHONPATH": str(HERE),
            "BENCH_REDIS": place.redis,
        },
    }
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=place.folder) as folder:
        data = Path(folder)
        env = server.environment(data, place.segment)
        for arguments in (("migrate", "--verbosity", "0"), ("load_places",)):
            command = [sys.executable, "manage.py", *arguments]
            subprocess.run(command, cwd=SITE, env=env, check=True, stdout=subprocess.DEVNULL)
        for round_ in range(rounds):
            for name, own in ways.items():
                if name in missing:
                    continue
                try:
                    log = data / f"{round_}.log"
                    with server.Server({**env, **own}, WORKERS, log) as site:
                        site.warm_up(list(PATHS))
                        taken.setdefault(name, []).append(_requests(site.port))
                except Exception as error:
                    missing[f"{name}, pages"] = missing[name] = f"{type(error).__name__}: {error}"
    return {name: statistics.median(figures) for name, figures in taken.items()}


def _requests(port: int) -> float:
    """All paths in turn, by a few connections at once."""
    script = "local paths = {" + ", ".join(f"'{path}'" for path in PATHS) + "}\n"
    script += "local i = 0\nrequest = function() i = i + 1; "
    script += "return wrk.format('GET', paths[i % #paths + 1]) end\n"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{WORKERS}", f"-d{SECONDS}s", "-s", file.name]
        url = f"http://127.0.0.1:{port}"
        shown = subprocess.run(
            [*command, url], capture_output=True, text=True, check=True, env=os.environ
        ).stdout
    if failed := re.search(r"Non-2xx or 3xx responses: (\d+)", shown):
        raise RuntimeError(f"{failed[1]} requests failed")
    found = re.search(r"Requests/sec:\s+([\d.]+)", shown)
    assert found is not None, shown
    return float(found[1])
