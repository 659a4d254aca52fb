"""What a Celery worker does: it writes, and reads through the cache."""

import os

from celery import Celery
from django.db import connection

from things.views import READERS, WRITERS

app = Celery("things")
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={
        "polling_interval": 0.02,  # seconds
        "data_folder_in": os.environ["SITE_QUEUE"],
        "data_folder_out": os.environ["SITE_QUEUE"],
        "control_folder": os.path.join(os.environ["SITE_QUEUE"], "control"),
    },
    result_backend="file://" + os.environ["SITE_QUEUE"],
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


@app.task
def write(how, pk, value):
    WRITERS[how](pk, value)
    return os.getpid()


@app.task
def read(how, pk):
    """The value, and with how many queries."""
    queries = []

    def count(execute, sql, params, many, context):
        queries.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        return READERS[how](pk), len(queries), os.getpid()
