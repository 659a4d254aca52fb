"""A process that uses a segment on demand: one JSON command a line, one answer a line.

    python peer.py SEGMENT [fork|spawn] [UID[:GID]]

With `fork`, the segment is opened and used first and a forked child serves;
with `spawn`, a child of multiprocessing's spawn method does. Who serves changes
to the user UID before it does, who is in the group GID beside one of the same number:
`fork` afterwards, others before they open.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from typing import Any

from zoocache.shm import MIN_SIZE, Cache, Segment
from zoocache.shm.intent import Intent, reap

under_way: list[Intent] = []


def answer(cache: Cache, command: str, *arguments: Any) -> Any:
    if command == "get":
        value = cache.get(arguments[0])
        return None if value is None else value.decode()
    if command == "set":
        key, value, tags = arguments
        return cache.set(key, value.encode(), tags=tags).name
    if command == "fill":
        key, value, stamp, tags = arguments
        return cache.fill(key, value.encode(), stamp, tags=tags).name
    if command == "pid":
        return os.getpid()
    if command == "announce":
        under_way.append(cache.intent())
        return under_way[-1].announce(arguments[0], "", 0)
    if command == "reap":
        return reap(cache)
    return getattr(cache, command)(*arguments)


def serve(cache: Cache) -> None:
    for line in sys.stdin:
        print(json.dumps(answer(cache, *json.loads(line))), flush=True)


def serve_spawned(name: str, stdin: int) -> None:
    sys.stdin = os.fdopen(os.dup(stdin))
    serve(Cache(Segment(name)))


def change_user(user: str) -> None:
    uid, _, group = user.partition(":")
    os.setgroups([int(group)] if group else [])
    os.setgid(int(uid))
    os.setuid(int(uid))


def main(name: str, how: str = "late", uid: str = "") -> None:
    if how == "late":
        if uid:
            change_user(uid)
        serve(Cache(Segment(name, MIN_SIZE if uid else 0)))
    elif how == "fork":
        cache = Cache(Segment(name))
        assert cache.get("opened before the fork") == b"yes"
        if (pid := os.fork()) == 0:
            if uid:
                change_user(uid)
            serve(cache)
        else:
            os.waitpid(pid, 0)
    else:
        stdin = os.dup(0)
        os.set_inheritable(stdin, True)
        context = multiprocessing.get_context("spawn")
        # spawn passes on only the descriptors that it knows of: 0 to 2 stay as they are.
        child = context.Process(target=serve_spawned, args=(name, 0))
        child.start()
        child.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
