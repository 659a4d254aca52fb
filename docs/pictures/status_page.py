"""Takes the pictures of the status page: python docs/pictures/status_page.py [seconds]

The example site runs under load in a database and a segment of its own, and
Chromium looks at its admin, in light and in dark. Needs what the tests need.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "examples" / "atlas"))

import load  # noqa: E402
import server  # noqa: E402
from judge import Judge  # noqa: E402
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

CACHE = "atlas-pictures"
PAGE = "/admin/zoocache/status/"
WIDTH, HEIGHT = 1360, 1720


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 90
    load.WRITE_SHARE, load.UNCACHED_SHARE = 0.004, 0.0  # a site as most are, and not a trial
    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.callback(server.remove_cache, CACHE)
        env = server.environment(data, CACHE) | {
            "ATLAS_SIZE": "3MiB",
            "DJANGO_SUPERUSER_USERNAME": "admin",
            "DJANGO_SUPERUSER_PASSWORD": "secret",
            "DJANGO_SUPERUSER_EMAIL": "admin@example.org",
        }
        server.manage(env, "migrate", "--verbosity", "0")
        server.manage(env, "load_places")
        server.manage(env, "createsuperuser", "--noinput")
        site = stack.enter_context(server.Server(env, 4, data / "gunicorn.log"))
        world, stop = load.World(data / "atlas.sqlite3"), threading.Event()
        judge, rng = Judge(world.cities), random.Random(1)
        clients = [
            load.Client(site.port, world, judge, stop, rng.random(), 0.008) for _ in range(3)
        ]
        stack.callback(lambda: [client.join() for client in clients])
        stack.callback(stop.set)
        browser = stack.enter_context(chromium())
        for client in clients:
            client.start()
        time.sleep(seconds)  # the cache is warm
        log_in(browser, f"http://127.0.0.1:{site.port}")
        time.sleep(seconds)  # what is drawn is what happens meanwhile
        for scheme in ("light", "dark"):
            feature = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
            time.sleep(0.5)  # the admin fades from one to the other
            browser.save_screenshot(str(HERE / f"status-page-{scheme}.png"))


def chromium() -> Any:
    options = webdriver.ChromeOptions()
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ):
        options.add_argument(argument)
    options.add_argument(f"--window-size={WIDTH},{HEIGHT}")
    service = webdriver.ChromeService(executable_path="/usr/bin/chromedriver")
    return webdriver.Chrome(options=options, service=service)


def log_in(browser: Any, site: str) -> None:
    browser.get(f"{site}/admin/login/?next={PAGE}")
    browser.find_element(By.NAME, "username").send_keys("admin")
    browser.find_element(By.NAME, "password").send_keys("secret")
    browser.find_element(By.CSS_SELECTOR, "input[type=submit]").click()


if __name__ == "__main__":
    main()
