"""Middleware of the atlas site."""

import os


def name_the_worker(get_response):
    """Middleware that puts the process id of the worker on each response, as X-Worker."""

    def respond(request):
        response = get_response(request)
        response.headers["X-Worker"] = str(os.getpid())
        return response

    return respond
