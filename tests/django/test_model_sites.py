"""What is counted of the models that are read through the cache, by where they are asked for."""

from __future__ import annotations

from django.db import transaction
from django.template import Context, Template
from shop.models import Category, Product

import zoocache
from zoocache import sites, store
from zoocache.contrib.django import cached, cached_as
from zoocache.shm import tally

HERE = __name__


def counted():
    zoocache.stats()
    return sites.counted(store.cache())


def total(label):
    """The counts of all places of a model."""
    found = [counts for one, counts in counted().items() if one.name == label]
    return [sum(one) for one in zip(*found, strict=True)] if found else [0] * 7


# A query that nobody else asks: its place is where this process has asked for it first.
def asked(name):
    return list(Product.cached.filter(name=name).order_by("-stock", "name", "-id"))


def test_a_model_is_counted_where_it_is_asked_for(sqlite, queries):
    for name in ("a", "a", "b"):
        asked(name)
    (label,) = [one for one in counted() if one.name == "shop.Product"]
    assert label.kind == "query"
    assert label.place == f"{HERE}:{asked.__code__.co_firstlineno + 1}"
    found = counted()[label]
    assert (found.hits, found.misses, found.stored, found.refused, found.bypassed) == (
        1,
        2,
        2,
        0,
        0,
    )
    assert found.size > 0
    assert found.ns > 0
    assert tally.fills(store.cache()).total == 2


def test_hits_of_copies_count_for_the_place(sqlite):
    Category.objects.create(name="one")
    for _ in range(1000):
        list(Category.cached.all())
    (found,) = [counts for one, counts in counted().items() if one.name == "shop.Category"]
    assert found.hits + 64 > 999 - found.misses  # the last few are not counted for a site yet
    assert found.hits < 1000


def test_a_queryset_that_is_no_recipe_counts_for_its_model(sqlite):
    for _ in range(3):
        list(cached(Product.objects.select_related("category")).order_by("name"))
    found = {one.place: counts for one, counts in counted().items() if one.name == "shop.Product"}
    assert set(found) == {""}
    assert found[""].misses == 1
    assert found[""].hits == 1  # the third comes from the process's own copy


def test_what_goes_around_the_cache_is_counted(sqlite):
    with transaction.atomic():
        Category.objects.create(name="mine")
        list(Category.cached.all())
    assert total("shop.Category")[4] == 1


def test_what_must_not_be_stored_is_refused(sqlite):
    list(Product.cached.extra(select={"now": "random()"}))
    misses, stored, refused = total("shop.Product")[1:4]
    assert (misses, stored, refused) == (1, 0, 1)


def test_functions_and_fragments_have_names(sqlite):
    @cached_as(Product)
    def figures():
        return [1]

    fragment = Template("{% load zoocache %}{% cached 1 %}{{ 2 }}{% endcached %}")
    for _ in range(2):
        figures()
        fragment.render(Context())
    names = {one.name: counts for one, counts in counted().items() if one.kind == "function"}
    assert next(names[name] for name in names if name.endswith("figures")).hits == 1
    assert names["{% cached %}"].hits == 1
    assert names["{% cached %}"].misses == 1


def test_the_end_of_a_request_puts_them_into_the_segment(sqlite, in_a_request, monkeypatch):
    from django.core.signals import request_finished

    monkeypatch.setattr(sites, "_next_flush", 0.0)
    asked("a")
    asked("a")
    request_finished.send(sender=None)
    found = sites.counted(store.cache())
    assert [counts.hits for one, counts in found.items() if one.name == "shop.Product"] == [1]


def test_a_template_is_a_place(sqlite):
    template = Template("{% if 1 %}\n{% for one in all %}{% endfor %}{% endif %}")
    template.render(Context({"all": Category.cached.order_by("-name")}))
    places = {one.place for one in counted() if one.name == "shop.Category"}
    assert places == {"a template:2"}
