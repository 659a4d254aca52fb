"""Deliberate faults, with which the tests prove that they would notice such a one."""

import os
import signal
import sqlite3
from contextlib import closing

from django.conf import settings

from zoocache import commits, points, store
from zoocache.shm import Cache


def deaf():
    """No write invalidates anything."""
    store.bump = lambda tags: None
    commits.announce = commits.settle = lambda *args: None


def late_stamp():
    """A fill counts from when it is stored, not from before its read."""
    opens = Cache.__init__

    def opens_and_fills_late(self, segment):
        opens(self, segment)
        fill = self.fill
        self.fill = lambda key, value, stamp, **options: fill(key, value, self.stamp(), **options)

    Cache.__init__ = opens_and_fills_late


def dies_before_invalidating():
    """A write that makes the value 666 kills its process after COMMIT, before anybody is told."""

    announced = []

    def die(point):
        if point == "commit:announced":
            announced.append(point)
        if point == "commit:done" and announced:
            with closing(sqlite3.connect(settings.DATABASES["default"]["NAME"])) as connection:
                if connection.execute("SELECT 1 FROM things_thing WHERE value = 666").fetchall():
                    os.kill(os.getpid(), signal.SIGKILL)

    points.install(die)


BY_NAME = {
    "deaf": deaf,
    "late-stamp": late_stamp,
    "dies-before-invalidating": dies_before_invalidating,
}
