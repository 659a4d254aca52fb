"""The status page in a browser, under a Content-Security-Policy that allows nothing but its own."""

from __future__ import annotations

import threading
import urllib.request

from birds import POLICY
from birds.models import Bird
from django.contrib.auth.models import User
from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

import zoocache
from zoocache.contrib.django.admin import StatusAdmin

PAGE = "/admin/zoocache/status/"


def chromium():
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1280,1600")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path="/usr/bin/chromedriver")
    return webdriver.Chrome(options=options, service=service)


class Browser(StaticLiveServerTestCase):
    @classmethod
    def setUpClass(cls):
        StatusAdmin.every_ms = 200
        super().setUpClass()
        cls.browser = chromium()
        cls.addClassCleanup(cls.browser.quit)

    def setUp(self):
        User.objects.create_superuser("root", password="secret")
        Bird.objects.create(name="owl")
        self.browser.get(f"{self.live_server_url}/admin/login/?next={PAGE}")
        self.browser.find_element(By.NAME, "username").send_keys("root")
        self.browser.find_element(By.NAME, "password").send_keys("secret")
        self.find("input[type=submit]").click()

    def tearDown(self):
        """Nothing was refused by the policy, and no script has failed."""
        log = self.browser.get_log("browser")
        assert [one["message"] for one in log if "favicon" not in one["message"]] == []

    def find(self, css):
        return self.browser.find_element(By.CSS_SELECTOR, css)

    def until(self, what):
        # In between two pages there is nothing to ask.
        wait = WebDriverWait(
            self.browser, 20, poll_frequency=0.05, ignored_exceptions=[WebDriverException]
        )
        return wait.until(lambda _: what())

    def text(self, css):
        """The text of what may be drawn anew at any moment."""
        script = "const e = document.querySelector(arguments[0]); return e ? e.textContent : ''"
        return self.browser.execute_script(script, css)

    def read(self, name):
        with urllib.request.urlopen(f"{self.live_server_url}/birds/{name}/") as response:
            assert response.headers["Content-Security-Policy"] == POLICY

    def reading(self):
        """Somebody reads birds all the time, until the test is over."""
        over = threading.Event()

        def read():
            n = 0
            while not over.wait(0.01):
                self.read(f"bird{n % 7}" if n % 5 else f"rare{n}")
                n += 1

        thread = threading.Thread(target=read)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(over.set)

    def test_it_is_live(self):
        self.reading()
        self.until(lambda: self.text("#zoo-live") == "live")
        # A line takes two rates, and they three looks.
        for chart in ("ratio", "rates", "latency"):
            self.until(lambda chart=chart: self.find(f"#zoo-{chart} path.zoo-series"))
        self.until(lambda: "%" in self.text("#zoo-tiles"))
        cells = self.browser.find_elements(By.CSS_SELECTOR, "#zoo-map rect.zoo-bed")
        assert len(cells) == 128
        self.until(lambda: "birds.Bird" in self.text("#zoo-sites"))
        assert "birds.views:" in self.text("#zoo-sites")
        assert "python" in self.text("#zoo-workers")
        reads = self.text("#zoo-sites td:nth-child(3)")
        self.until(lambda: self.text("#zoo-sites td:nth-child(3)") != reads)
        # By another column, and back: what is sorted stays so when it is drawn anew.
        self.browser.execute_script("document.querySelector('[data-key=misses]').click()")
        assert self.text("th[aria-sort=descending]") == "Misses"

    def test_a_session_that_is_over_is_said(self):
        self.until(lambda: self.text("#zoo-live") == "live")
        self.browser.delete_all_cookies()
        self.until(lambda: self.text("#zoo-live") == "not live")
        assert "session" in self.text("#zoo-error")

    def test_the_form_asks_and_drops(self):
        list(Bird.cached.filter(name="owl"))
        self.until(lambda: self.text("#zoo-live") == "live")
        assert not self.find("#zoo-pk").is_displayed()
        Select(self.find("#zoo-what")).select_by_value("object")
        Select(self.find("#zoo-model")).select_by_value("birds.Bird")
        assert not self.find("#zoo-tag").is_displayed()
        self.find("#zoo-pk").send_keys(str(Bird.objects.get().pk))
        before = zoocache.stats()["invalidations"]
        self.find(".zoo-form input[type=submit]").click()
        self.until(lambda: "Are you sure?" in self.text("#content h1"))
        assert zoocache.stats()["invalidations"] == before
        self.find("input[value='Yes, drop it']").click()
        said = "Dropped all that depends on birds.Bird"
        self.until(lambda: said in self.text(".messagelist"))
        assert zoocache.stats()["invalidations"] > before
        self.until(lambda: "invalidate by" in self.text("#zoo-dropped"))
