"""Stops a request at a named point until the test lets it go on.

The test makes two FIFOs, `<path>.reached` and `<path>.released`, opens both,
and sends `<path>` and the point in the request's headers.
"""

import os
import select
import threading

PATIENCE = 20  # seconds, so that no worker outlives a test that died
_request = threading.local()


def middleware(get_response):
    def respond(request):
        _request.point = request.headers.get("X-Stop-At")
        _request.path = request.headers.get("X-Barrier")
        try:
            return get_response(request)
        finally:
            _request.point = None

    return respond


def reach(point):
    """Stops here if this is the point that the request names: the first time it gets there."""
    if getattr(_request, "point", None) != point:
        return
    _request.point = None
    reached = os.open(f"{_request.path}.reached", os.O_WRONLY)
    released = os.open(f"{_request.path}.released", os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.write(reached, str(os.getpid()).encode())
        select.select([released], [], [], PATIENCE)
    finally:
        os.close(reached)
        os.close(released)
