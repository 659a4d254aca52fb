"""gunicorn.conf.py as the other one, with the hook."""

from zoocache.contrib.gunicorn import child_exit  # noqa: F401

graceful_timeout = 3
control_socket_disable = True
