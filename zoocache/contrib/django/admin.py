"""The status page in the admin: how the host's cache is doing, and a form that drops a part of it.

It is there for every staff user with the permission `zoocache.view_status`; the
form takes `zoocache.invalidate_status`. Nothing of it needs a CDN, or an inline
script or style.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from zoocache import store
from zoocache.contrib.django import status
from zoocache.contrib.django import tags as orm_tags
from zoocache.contrib.django.models import Status
from zoocache.contrib.django.status import Used
from zoocache.exceptions import TagError, ZooCacheError

logger = logging.getLogger("zoocache.admin")

MODEL, OBJECT, TAG = "model", "object", "tag"


class InvalidateForm(forms.Form):
    """What is to be dropped: all of a model, one object, or whatever depends on a tag."""

    what = forms.ChoiceField(
        choices=[(MODEL, "a model"), (OBJECT, "an object"), (TAG, "a tag")], initial=MODEL
    )
    model = forms.ChoiceField(required=False)
    pk = forms.CharField(label="Primary key", required=False, max_length=200)
    tag = forms.CharField(required=False, max_length=200)

    def __init__(self, used: Used, data: Any = None) -> None:
        super().__init__(data, auto_id="zoo-%s")
        self.used = used
        every = set(apps.get_models(include_auto_created=True)) - {Status}
        models = sorted(model._meta.label for model in every)
        self.fields["model"].choices = [("", "---"), *((m, m) for m in models)]  # type: ignore[attr-defined]
        if not used.is_main:  # there are no rows in it
            self.fields["what"].choices = [(TAG, "a tag")]  # type: ignore[attr-defined]
            self.fields["what"].initial = TAG
            self.fields["tag"].initial = used.tags[0] if used.tags else ""

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or {}
        what = given.get("what")
        needed = {MODEL: ["model"], OBJECT: ["model", "pk"], TAG: ["tag"]}.get(str(what), [])
        for name in needed:
            if not given.get(name) and name not in self.errors:
                self.add_error(name, "This is needed.")
        if not self.errors and what == OBJECT and not self._is_key(given["model"], given["pk"]):
            self.add_error("pk", f"No {given['model']} can have this key.")
        if not self.errors and what == TAG and ("" in given["tag"].split(":")):
            self.add_error("tag", 'A tag is one or more non-empty parts joined by ":".')
        return given

    @staticmethod
    def _is_key(label: str, pk: str) -> bool:
        field = apps.get_model(label)._meta.pk
        return orm_tags.canonical(field, pk) is not None

    @property
    def dropped(self) -> str:
        """The tag that is invalidated."""
        given = self.cleaned_data
        if given["what"] == TAG:
            return str(given["tag"])
        label = given["model"].lower()
        return label if given["what"] == MODEL else f"{label}:{given['pk']}"

    @property
    def told(self) -> str:
        """What that is, in words."""
        given = self.cleaned_data
        if given["what"] == TAG:
            return f"all that depends on the tag {given['tag']}"
        if given["what"] == MODEL:
            return f"all that was read from {given['model']}"
        return f"all that depends on {given['model']} {given['pk']}"

    def drop(self) -> None:
        """Invalidates it, in every process of the host."""
        if self.used.is_main:
            return store.invalidate(self.dropped)
        target = self.used.place.writer()
        if target is not None:
            target.invalidate(self.dropped)
        return None


@admin.register(Status)
class StatusAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """One page, and what it asks for: no rows to list, add or change."""

    every_ms = 2000
    """Between two looks of the page, in milliseconds."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def may_invalidate(self, request: HttpRequest) -> bool:
        """May the user drop what is cached?"""
        return bool(request.user.has_perm("zoocache.invalidate_status"))  # type: ignore[union-attr]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("", view(self.status_view), name="zoocache_status_changelist"),
            path("data/", view(self.data_view), name="zoocache_status_data"),
            path("invalidate/", view(self.invalidate_view), name="zoocache_status_invalidate"),
        ]

    def _used(self, request: HttpRequest) -> tuple[Used, list[Used]]:
        """The segment that is asked for, of all that there are."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        every = status.used()
        name = request.POST.get("segment") or request.GET.get("segment")
        return next((one for one in every if one.name == name), every[0]), every

    def _context(self, request: HttpRequest, used: Used, **more: Any) -> dict[str, Any]:
        request.current_app = self.admin_site.name
        return {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Cache status",
            "used": used,
            "status_url": self._url("changelist", used),
            "invalidate_url": self._url("invalidate", used),
            **more,
        }

    def _url(self, view: str, used: Used) -> str:
        url = reverse(f"admin:zoocache_status_{view}", current_app=self.admin_site.name)
        return url if used.is_main else f"{url}?segment={used.name}"

    def status_view(self, request: HttpRequest) -> HttpResponse:
        return self._status_page(request)

    def _status_page(
        self, request: HttpRequest, form: InvalidateForm | None = None
    ) -> HttpResponse:
        used, every = self._used(request)
        allowed = self.may_invalidate(request)
        context = self._context(
            request,
            used,
            data_url=self._url("data", used),
            every_ms=self.every_ms,
            tabs=[(one, self._url("changelist", one)) for one in every],
            form=(form or InvalidateForm(used)) if allowed else None,
        )
        return never_cached(TemplateResponse(request, "zoocache/status.html", context))

    def data_view(self, request: HttpRequest) -> HttpResponse:
        """What the page's script asks for, every other second."""
        return _data_of(request, self._used(request)[0])

    def invalidate_view(self, request: HttpRequest) -> HttpResponse:
        """Asks first; drops what was confirmed."""
        used, _ = self._used(request)
        if not self.may_invalidate(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseRedirect(self._url("changelist", used))
        form = InvalidateForm(used, request.POST)
        if not form.is_valid():
            return self._status_page(request, form)
        if "confirmed" not in request.POST:
            context = self._context(
                request, used, title="Are you sure?", form=form, given=_given(form, used)
            )
            return TemplateResponse(request, "zoocache/confirm.html", context)
        try:
            form.drop()
        except (TagError, ZooCacheError) as error:
            messages.error(request, f"Nothing was dropped: {error}")
        else:
            logger.info(
                "%s invalidated %s in the segment %s", request.user, form.dropped, used.name,
                extra={"zoocache_segment": used.name, "zoocache_tags": [form.dropped]},
            )  # fmt: skip
            messages.success(request, f"Dropped {form.told}.")
        return HttpResponseRedirect(self._url("changelist", used))


def never_cached(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response


def _given(form: InvalidateForm, used: Used) -> Iterable[tuple[str, str]]:
    """What the confirmation sends again."""
    fields = {name: str(form.cleaned_data.get(name) or "") for name in form.fields}
    return [*fields.items(), ("segment", used.name)]


@never_cache
@require_GET
def _data_of(request: HttpRequest, used: Used) -> HttpResponse:
    try:
        return JsonResponse(status.look(used))
    except ZooCacheError as error:
        return JsonResponse({"error": str(error)})
