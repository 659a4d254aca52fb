from __future__ import annotations

from birds import views
from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls), path("birds/<str:name>/", views.bird)]
