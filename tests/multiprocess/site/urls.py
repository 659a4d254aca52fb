"""All addresses of the site under test."""

from django.urls import path
from things import views

urlpatterns = [
    path("health/", views.health),
    path("read/<how>/<int:pk>/", views.read),
    path("write/<how>/<int:pk>/<int:value>/", views.write),
    path("transaction/<end>/<int:pk>/<int:value>/", views.in_transaction),
]
