"""How gunicorn serves the atlas: `gunicorn atlas.wsgi` in this folder reads this file."""

from zoocache.contrib.gunicorn import child_exit  # noqa: F401

bind = "127.0.0.1:8000"
workers = 4
worker_class = "gthread"
threads = 2
keepalive = 15  # seconds; longer than a client of the demo is ever idle
control_socket_disable = True  # two sites of one user would share it; unknown before gunicorn 25.1
