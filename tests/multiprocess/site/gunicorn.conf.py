"""How the tests start gunicorn; the rest is on its command line."""

graceful_timeout = 3  # seconds
control_socket_disable = True  # the sites of one user would share it; unknown before gunicorn 25.1
