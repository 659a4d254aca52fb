"""Deliberate faults, with which the tests prove that they would notice such a one."""

import os
import signal

from zoocache import store
from zoocache.shm import Cache


def deaf():
    """No write invalidates anything."""
    store.bump = lambda tags: None


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
    bump = store.bump

    def die_or_bump(tags):
        from things.models import Thing

        if Thing.objects.filter(value=666).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        bump(tags)

    store.bump = die_or_bump


BY_NAME = {
    "deaf": deaf,
    "late-stamp": late_stamp,
    "dies-before-invalidating": dies_before_invalidating,
}
