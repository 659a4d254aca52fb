"""The entry point for gunicorn."""

import os

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

if os.environ.get("SITE_OPEN_BEFORE_FORK"):
    from things import middleware

    from zoocache import store

    cache = store.cache()
    cache.set("made-by-the-master", b"before the fork")
    assert cache.get("made-by-the-master") == b"before the fork"
    middleware.opened_by = os.getpid()
