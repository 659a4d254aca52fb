"""Addresses of the whole site: the places, Django's admin and the static files."""

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import include, path

urlpatterns = [
    path("", include("places.urls")),
    path("admin/", admin.site.urls),
    # An example needs no web server in front of it: gunicorn serves the few static files too.
    path("static/<path:path>", serve, {"insecure": True}),
]
