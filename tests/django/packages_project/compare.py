"""Reads through other packages, cached and not, between the writes of those packages.

Prints for each package how many reads there were, how many queries the cached ones
took, and which differed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "modeltranslation", "django.contrib.contenttypes", "django.contrib.auth", "djmoney",
            "mptt", "ordered_model", "parler", "polymorphic", "safedelete", "simple_history",
            "taggit", "treebeard", "zoocache.contrib.django", "packages",
        ],
        LANGUAGE_CODE="en",
        LANGUAGES=[("en", "English"), ("de", "German")],
        PARLER_LANGUAGES={None: ({"code": "en"}, {"code": "de"}), "default": {"fallbacks": ["en"]}},
        USE_TZ=True,
    )  # fmt: skip
    django.setup()

from django.core.management import call_command
from django.db import connection
from django.db.models import IntegerField, Sum, Value
from django.test.utils import CaptureQueriesContext
from django.utils import translation
from django_cte import CTE, with_cte
from packages.models import (
    Animal,
    Article,
    Car,
    Cat,
    Dog,
    News,
    Node,
    Page,
    Place,
    Poll,
    Product,
    Region,
    Sale,
    Vehicle,
)

from zoocache.contrib.django import cached

Wrap = Callable[[Any], Any]
READS_AGAIN = 2


class Comparison:
    def __init__(self) -> None:
        self.reads = self.queries = 0
        self.differ: list[str] = []

    def same(self, read: Callable[[Wrap], Any]) -> None:
        """Compares a read of plain querysets with the same one of cached ones, thrice."""
        expected = read(lambda queryset: queryset)
        first = read(cached)
        with CaptureQueriesContext(connection) as captured:
            again = [read(cached) for _ in range(READS_AGAIN)]
        self.reads += READS_AGAIN
        self.queries += len(captured)
        for got in [first, *again]:
            if got != expected:
                self.differ.append(f"{got!r} instead of {expected!r}")


def modeltranslation(comparison: Comparison) -> None:
    def check() -> None:
        for language in ("en", "de"):
            with translation.override(language):
                comparison.same(lambda of: of(News.objects.all()).get(pk=1).title)
                comparison.same(lambda of: [n.pk for n in of(News.objects.filter(title="hallo"))])
                comparison.same(lambda of: list(of(News.objects.order_by("title")).values("title")))
                comparison.same(lambda of: of(News.objects.filter(title="adieu")).exists())

    News.objects.create(title_en="hello", title_de="hallo")
    News.objects.create(title_en="hallo", title_de="adieu")
    check()
    with translation.override("de"):
        News.objects.filter(title="hallo").update(title="adieu")
    check()


def polymorphic(comparison: Comparison) -> None:
    def check() -> None:
        def shown(animals: Any) -> list[Any]:
            return [(type(a), a.name, getattr(a, "lives", None)) for a in animals.order_by("pk")]

        comparison.same(lambda of: shown(of(Animal.objects.all())))
        comparison.same(lambda of: shown(of(Animal.objects.instance_of(Cat))))
        comparison.same(lambda of: shown(of(Animal.objects.filter(Cat___lives__gt=5))))

    Dog.objects.create(name="Rex")
    cat = Cat.objects.create(name="Tom")
    check()
    cat.lives = 3
    cat.save()
    check()
    cat.delete()
    check()


def mptt(comparison: Comparison) -> None:
    def check() -> None:
        def shown(places: Any) -> list[Any]:
            return [(p.name, p.lft, p.rght, p.level, p.tree_id) for p in places.order_by("pk")]

        root = Place.objects.get(name="Earth")
        comparison.same(lambda of: shown(of(Place.objects.all())))
        comparison.same(lambda of: shown(of(root.get_descendants())))
        comparison.same(lambda of: shown(of(root.get_children())))

    earth = Place.objects.create(name="Earth")
    europe = Place.objects.create(name="Europe", parent=earth)
    rome = Place.objects.create(name="Rome", parent=europe)
    check()
    rome.move_to(Place.objects.get(name="Earth"))
    check()
    Place.objects.get(name="Europe").delete()
    check()


def treebeard(comparison: Comparison) -> None:
    def check() -> None:
        def shown(nodes: Any) -> list[Any]:
            return [(n.name, n.path, n.depth, n.numchild) for n in nodes]

        comparison.same(lambda of: shown(of(Node.objects.order_by("path"))))
        root = Node.objects.get(name="root")
        comparison.same(lambda of: shown(of(Node.objects.filter(path__startswith=root.path))))

    Node.load_bulk([
        {"data": {"name": "root"}, "children": [{"data": {"name": "a"}}, {"data": {"name": "b"}}]}
    ])  # fmt: skip
    check()
    Node.objects.get(name="b").move(Node.objects.get(name="a"), "first-child")
    check()
    Node.objects.get(name="b").delete()
    check()


def model_utils(comparison: Comparison) -> None:
    def check() -> None:
        def shown(vehicles: Any) -> list[Any]:
            return [(type(v), v.name, getattr(v, "doors", None)) for v in vehicles.order_by("pk")]

        comparison.same(lambda of: shown(of(Vehicle.objects.select_subclasses())))
        comparison.same(lambda of: shown(of(Vehicle.objects.all()).select_subclasses(Car)))

    def tracked(of: Wrap) -> Any:
        article = of(Article.objects.filter(name="tracked")).get()
        article.name = "other"
        return article.tracker.changed()

    Vehicle.objects.create(name="bike")
    car = Car.objects.create(name="car")
    check()
    car.doors = 2
    car.save()
    check()
    Article.objects.create(name="tracked")
    comparison.same(tracked)


def safedelete(comparison: Comparison) -> None:
    def check() -> None:
        def shown(articles: Any) -> list[str]:
            return [article.name for article in articles.order_by("pk")]

        comparison.same(lambda of: shown(of(Article.objects.all())))
        comparison.same(lambda of: shown(of(Article.all_objects.all())))
        comparison.same(lambda of: of(Article.objects.filter(name="a")).count())

    article = Article.objects.create(name="a")
    check()
    article.delete()
    check()
    article.undelete()
    check()


def simple_history(comparison: Comparison) -> None:
    def check() -> None:
        comparison.same(lambda of: [h.question for h in of(poll.history.all())])
        comparison.same(lambda of: of(Poll.history.filter(question="why?")).count())

    poll = Poll.objects.create(question="what?")
    check()
    poll.question = "why?"
    poll.save()
    check()


def taggit(comparison: Comparison) -> None:
    def check() -> None:
        def shown(polls: Any) -> list[Any]:
            return [sorted(tag.name for tag in poll.tags.all()) for poll in polls]

        comparison.same(lambda of: sorted(tag.name for tag in of(poll.tags.all())))
        comparison.same(lambda of: of(Poll.objects.filter(tags__name="red")).count())
        comparison.same(lambda of: shown(of(Poll.objects.prefetch_related("tags"))))

    poll = Poll.objects.create(question="which?")
    poll.tags.add("red", "blue")
    check()
    poll.tags.remove("red")
    check()
    poll.tags.set(["red", "green"])
    check()


def parler(comparison: Comparison) -> None:
    def check() -> None:
        for language in ("en", "de"):
            with translation.override(language):
                comparison.same(lambda of: of(Page.objects.translated(title="one")).count())
                comparison.same(
                    lambda of: [
                        page.title for page in of(Page.objects.prefetch_related("translations"))
                    ]
                )

    page = Page.objects.language("en").create(title="one")
    check()
    page.set_current_language("de")
    page.title = "eins"
    page.save()
    check()


def ordered_model(comparison: Comparison) -> None:
    def check() -> None:
        comparison.same(lambda of: [p.pk for p in of(Product.objects.order_by("order"))])

    products = [Product.objects.create(price=price) for price in (10, 20, 30)]
    check()
    products[2].to(0)
    check()
    products[1].delete()
    check()


def djmoney(comparison: Comparison) -> None:
    from djmoney.money import Money

    def check() -> None:
        comparison.same(lambda of: [p.price for p in of(Product.objects.order_by("pk"))])
        comparison.same(lambda of: of(Product.objects.filter(price__gt=Money(15, "USD"))).count())

    product = Product.objects.create(price=Money(10, "USD"))
    check()
    product.price = Money(20, "EUR")
    product.save()
    check()


def django_cte(comparison: Comparison) -> None:
    def check() -> None:
        sums = CTE(Sale.objects.values("region_id").annotate(total=Sum("amount")))
        totals = with_cte(
            sums,
            select=sums.join(Region.objects.all(), name=sums.col.region_id).annotate(
                total=sums.col.total
            ),
        )

        def deeper(cte: Any) -> Any:
            roots = Region.objects.filter(parent=None).values("name", depth=depth(0))
            below = cte.join(Region, parent=cte.col.name)
            return roots.union(below.values("name", depth=cte.col.depth + depth(1)), all=True)

        tree = CTE.recursive(deeper)
        depths = with_cte(
            tree,
            select=tree.join(Region.objects.all(), name=tree.col.name).annotate(
                depth=tree.col.depth
            ),
        )
        comparison.same(lambda of: [(r.name, r.total) for r in of(totals.order_by("name"))])
        comparison.same(lambda of: [(r.name, r.depth) for r in of(depths.order_by("name"))])

    def depth(number: int) -> Value:
        return Value(number, output_field=IntegerField())

    Region.objects.create(name="sun")
    Region.objects.create(name="earth", parent_id="sun")
    Sale.objects.bulk_create([Sale(region_id="sun", amount=1), Sale(region_id="earth", amount=2)])
    check()
    Sale.objects.filter(amount=1).update(amount=100)
    check()
    Region.objects.create(name="moon", parent_id="earth")
    Sale.objects.create(region_id="moon", amount=3)
    check()


PACKAGES = [
    modeltranslation, polymorphic, mptt, treebeard, model_utils, safedelete, simple_history, taggit,
    parler, ordered_model, djmoney, django_cte,
]  # fmt: skip


def main() -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)
    told = {}
    for package in PACKAGES:
        comparison = Comparison()
        package(comparison)
        told[package.__name__] = vars(comparison)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
