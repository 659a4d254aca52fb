"""Says on each response who answered, and with how many SQL queries."""

import os

from django.db import connection

opened_by = None  # the process that opened the segment, where that was before the fork


def report(get_response):
    def respond(request):
        queries = []

        def count(execute, sql, params, many, context):
            queries.append(sql)
            return execute(sql, params, many, context)

        with connection.execute_wrapper(count):
            response = get_response(request)
        response.headers["X-Worker"] = str(os.getpid())
        response.headers["X-Queries"] = str(len(queries))
        response.headers["X-Opened-By"] = str(opened_by)
        return response

    return respond
