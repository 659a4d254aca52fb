"""What other caches were seen to get wrong, case by case; docs/design/acceptance.md names each.

Each case is one read and one write that changes what it gives. The matrix and the fuzzers try far
more of them, but say less plainly which fault they would find.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connections
from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    FilteredRelation,
    OuterRef,
    Prefetch,
    Q,
    Subquery,
    Sum,
    Value,
    When,
)
from shop import routing, stock
from shop.models import (
    Book,
    Both,
    Category,
    Discount,
    Exhibit,
    Leaf,
    Product,
    Remark,
    Slug,
    Store,
    Tag,
    Visit,
)
from shop.reads import cached, plain, snapshot
from shop.writes import FIXTURE, WRITES

Queries = Callable[..., Any]
M = Callable[[Any], Any]


class Pair(NamedTuple):
    read: Callable[[M], Any]
    write: Callable[[], object]


def sql(statement: str, *params: Any) -> None:
    with connections[routing.active].cursor() as cursor:
        cursor.execute(statement, params or None)


def names(queryset: Any) -> list[Any]:
    return list(queryset.order_by("pk").values_list("pk", "name"))


def set_name(model: Any, pk: int = 1) -> Callable[[], object]:
    return lambda: model.objects.filter(pk=pk).update(name="changed")


def saved(model: Any, pk: int, **values: Any) -> Callable[[], None]:
    def save() -> None:
        row = model.objects.get(pk=pk)
        for name, value in values.items():
            setattr(row, name, value)
        row.save()

    return save


def put_exhibits() -> None:
    """What the stock lacks: generic relations, a many-to-many table of the user's own."""
    store = Store.objects.get(pk=1)
    exhibit = Exhibit.objects.create(pk=1, name="exhibit", home=store)
    Visit.objects.create(exhibit=exhibit, store=store)
    kind = ContentType.objects.get_for_model(Exhibit)
    Remark.objects.create(pk=1, kind=kind, number=1, text="old")


def kinds_by_tag(M: M) -> Any:
    """The many-to-many form of a condition within Case."""
    red = Case(When(tags__name="red", then=Value(1)), default=Value(0))
    return list(M(Product).annotate(red=red).order_by("pk", "red").values_list("pk", "red"))


def kinds_by_exists(M: M) -> Any:
    dear = Exists(Product.objects.filter(category=OuterRef("pk"), price__gt=1))
    kind = Case(When(dear, then=Value("dear")), default=Value("cheap"))
    return [(c.pk, c.kind) for c in M(Category).annotate(kind=kind).order_by("pk")]


def dearest(M: M) -> Any:
    rows = Product.objects.filter(category=OuterRef("pk")).order_by("-price", "pk")
    queryset = M(Category).annotate(dearest=Subquery(rows.values("name")[:1])).order_by("pk")
    return [(c.pk, c.dearest) for c in queryset]


def active_of(category: str) -> Any:
    return Product.objects.filter(category=OuterRef(category), active=True)


P, C = Product, Category
first, dear = set_name(P), lambda: P.objects.filter(pk=1).update(price=99)
inactive = lambda: P.objects.filter(category=2).update(active=False)  # noqa: E731

READS = {
    "a list": Pair(lambda M: list(M(P).order_by("pk")), first),
    "get": Pair(lambda M: M(P).get(pk=1), first),
    "first": Pair(lambda M: M(P).filter(active=True).order_by("pk").first(), first),
    "last": Pair(lambda M: M(P).order_by("stock", "pk").last(), set_name(P, 7)),
    "earliest": Pair(lambda M: M(P).filter(day__isnull=False).earliest("day"), first),
    "count": Pair(lambda M: M(P).filter(active=True).count(), inactive),
    "exists": Pair(lambda M: M(P).filter(name="changed").exists(), first),
    "contains": Pair(lambda M: M(P).filter(name="product 1").contains(P(pk=1)), first),
    "aggregate": Pair(lambda M: M(P).aggregate(s=Sum("price"), n=Count("pk")), dear),
    "values": Pair(lambda M: list(M(P).order_by("pk").values("name", "price", "day")), dear),
    "values_list": Pair(lambda M: list(M(P).order_by("pk").values_list("price", "made")), dear),
    "named rows": Pair(
        lambda M: [
            (type(row).__name__, row.pk, row.price)
            for row in M(P).order_by("pk").values_list("pk", "price", named=True)
        ],
        dear,
    ),
    "dates": Pair(
        lambda M: list(M(P).dates("day", "day")), lambda: P.objects.filter(pk=1).update(day=None)
    ),
    "datetimes": Pair(
        lambda M: list(M(P).datetimes("made", "hour")),
        lambda: P.objects.filter(pk=1).update(made=None),
    ),
    "in_bulk": Pair(lambda M: M(P).in_bulk([1, 2]), first),
    "a union, its second table": Pair(
        lambda M: list(
            M(P).values_list("name").union(M(C).order_by().values_list("name")).order_by("name")
        ),
        set_name(C),
    ),
    "an intersection": Pair(
        lambda M: list(M(P).values_list("name").intersection(M(C).order_by().values_list("name"))),
        lambda: C.objects.filter(pk=1).update(name="product 1"),
    ),
    "a difference": Pair(
        lambda M: list(M(C).order_by().values_list("name").difference(M(Tag).values_list("name"))),
        lambda: Tag.objects.filter(pk=1).update(name="a"),
    ),
    "in a subquery": Pair(
        lambda M: names(M(P).filter(category__in=C.objects.filter(rank__gt=0))),
        lambda: C.objects.filter(pk=1).update(rank=5),
    ),
    "Exists": Pair(lambda M: names(M(C).filter(Exists(active_of("pk")))), inactive),
    "not Exists": Pair(lambda M: names(M(C).filter(~Exists(active_of("pk")))), inactive),
    "not Exists, of another column": Pair(
        lambda M: names(M(P).filter(~Exists(Tag.objects.filter(name=OuterRef("name"))))),
        lambda: Tag.objects.filter(pk=1).update(name="product 1"),
    ),
    "a subquery's value": Pair(dearest, dear),
    "Exists within Case": Pair(kinds_by_exists, lambda: P.objects.filter(pk=4).update(price=99)),
    "many to many within Case": Pair(kinds_by_tag, lambda: P.objects.get(pk=4).tags.add(2)),
    "many to many within Case, the other table": Pair(kinds_by_tag, set_name(Tag, 2)),
    "an annotated attribute": Pair(
        lambda M: [(c.pk, c.n) for c in M(C).annotate(n=Count("product"))],
        lambda: P.objects.create(name="new", category_id=3),
    ),
    "a filtered relation": Pair(
        lambda M: list(
            M(C)
            .annotate(shown=FilteredRelation("product", condition=Q(product__active=True)))
            .filter(shown__isnull=False)
            .order_by("pk", "shown__pk")
            .values_list("pk", "shown__name")
        ),
        inactive,
    ),
    "select_related, a table without a manager": Pair(
        lambda M: [p.store and p.store.name for p in M(P).select_related("store").order_by("pk")],
        set_name(Store),
    ),
    "a join over another": Pair(
        lambda M: names(M(P).filter(category__parent__name="a")),
        lambda: C.objects.filter(pk=4).update(parent=2),
    ),
    "prefetch_related": Pair(
        lambda M: [sorted(t.name for t in p.tags.all()) for p in M(P).prefetch_related("tags")],
        set_name(Tag),
    ),
    "Prefetch to an attribute": Pair(
        lambda M: [
            [p.name for p in c.best]
            for c in M(C).prefetch_related(
                Prefetch("product_set", P.objects.filter(active=True).order_by("pk"), "best")
            )
        ],
        inactive,
    ),
    "only": Pair(lambda M: list(M(P).only("name").order_by("pk")), first),
    "defer": Pair(lambda M: list(M(P).defer("name").order_by("pk")), dear),
    "an order by another table": Pair(
        lambda M: [p.pk for p in M(P).order_by("category__name", "pk")],
        lambda: C.objects.filter(pk=1).update(name="zzz"),
    ),
    "a proxy, written as its model": Pair(lambda M: names(M(Discount)), first),
    "a model, written as its proxy": Pair(lambda M: names(M(P)), set_name(Discount)),
    "a child, written as its parent": Pair(
        lambda M: list(M(Book).order_by("pk")), saved(P, 9, name="changed")
    ),
    "a parent, written as its child": Pair(
        lambda M: names(M(P)), saved(Book, 9, name="changed", author="z")
    ),
    "a child of two": Pair(
        lambda M: list(M(Both).order_by("pk")), lambda: Both.objects.update(name="changed")
    ),
    "a generic relation": Pair(
        lambda M: [
            [r.text for r in e.remarks.all()] for e in M(Exhibit).prefetch_related("remarks")
        ],
        lambda: Remark.objects.filter(pk=1).update(text="new"),
    ),
    "a generic foreign key": Pair(
        lambda M: [r.about and r.about.name for r in M(Remark).prefetch_related("about")],
        set_name(Exhibit),
    ),
    "a manager on an abstract base": Pair(lambda M: names(M(Leaf)), set_name(Leaf)),
    "a manager on an abstract base, saved": Pair(
        lambda M: names(M(Leaf)), saved(Leaf, 1, name="z")
    ),
    "a reverse manager": Pair(
        lambda M: names(C(pk=1).product_set(manager="cached" if M is cached else "objects")),
        lambda: P.objects.filter(category=1).update(name="changed"),
    ),
    "extra": Pair(lambda M: [p.x for p in M(P).extra(select={"x": "price"}).order_by("pk")], dear),
    "raw": Pair(lambda M: list(M(P).raw("SELECT * FROM shop_product ORDER BY id")), dear),
}

LEFT_TO_THE_DATABASE = {"extra", "raw"}


def lists(M: M) -> Any:
    """What most writes change."""
    return (
        list(M(P).order_by("pk")),
        list(M(P).filter(category=1).order_by("pk")),
        list(M(C).annotate(n=Count("product")).order_by("pk")),
        [sorted(t.name for t in p.tags.all()) for p in M(P).prefetch_related("tags")],
        M(Tag).count(),
        list(M(Exhibit).annotate(n=Count("visitors")).order_by("pk")),
    )


def with_tags(M: M) -> Any:
    return [
        sorted(t.pk for t in p.tags.all()) for p in M(P).prefetch_related("tags").order_by("pk")
    ]


def visitors(M: M) -> Any:
    return [
        (e.home_id, [s.pk for s in e.visitors.all()])
        for e in M(Exhibit).prefetch_related("visitors").order_by("pk")
    ]


def by_stock(M: M) -> Any:
    return names(M(P).filter(stock=11))


def fresh_stock() -> None:
    product = P.objects.get(pk=1)
    product.stock = F("stock") + 1
    product.save()


def many(statement: str, *params: Any) -> None:
    with connections[routing.active].cursor() as cursor:
        cursor.executemany(statement, params)


WRITTEN = {
    "save": Pair(lists, saved(P, 1, name="changed")),
    "delete": Pair(lists, lambda: P.objects.get(pk=1).delete()),
    "a queryset's delete": Pair(lists, lambda: P.objects.filter(active=False).delete()),
    "create": Pair(lists, lambda: P.objects.create(name="new", category_id=1)),
    "update": Pair(lists, first),
    "bulk_create": Pair(lists, lambda: P.objects.bulk_create([P(name="new", category_id=1)])),
    "an upsert": Pair(lists, WRITES["upsert"]),
    "bulk_create, ignoring": Pair(lists, WRITES["bulk_create ignoring"]),
    "bulk_update": Pair(lists, WRITES["bulk_update"]),
    "get_or_create": Pair(lists, WRITES["get_or_create"]),
    "update_or_create": Pair(lists, WRITES["update_or_create"]),
    "a save with F, of what is filtered by": Pair(by_stock, fresh_stock),
    "an update with F, of what is filtered by": Pair(
        by_stock, lambda: P.objects.update(stock=F("stock") + 1)
    ),
    "m2m add": Pair(with_tags, WRITES["m2m add"]),
    "m2m add, from the other side": Pair(with_tags, WRITES["m2m add reverse"]),
    "m2m remove": Pair(with_tags, WRITES["m2m remove"]),
    "m2m remove, from the other side": Pair(with_tags, WRITES["m2m remove reverse"]),
    "m2m set": Pair(with_tags, WRITES["m2m set"]),
    "m2m set, from the other side": Pair(with_tags, WRITES["m2m set reverse"]),
    "m2m clear": Pair(with_tags, WRITES["m2m clear"]),
    "m2m clear, from the other side": Pair(with_tags, WRITES["m2m clear reverse"]),
    "an explicit through model": Pair(
        visitors, lambda: Visit.objects.create(exhibit_id=1, store_id=2)
    ),
    "an explicit through model, by add": Pair(
        visitors, lambda: Exhibit.objects.get(pk=1).visitors.add(2, through_defaults={"paid": 1})
    ),
    "an explicit through model, by clear from the other side": Pair(
        visitors, lambda: Store.objects.get(pk=1).visited.clear()
    ),
    "CASCADE": Pair(lists, lambda: C.objects.get(pk=1).delete()),
    "SET_NULL": Pair(
        lambda M: list(M(P).order_by("pk").values_list("pk", "store")),
        lambda: Store.objects.get(pk=2).delete(),
    ),
    "SET_DEFAULT": Pair(visitors, lambda: Store.objects.filter(pk=1).delete()),
    "a related model without a manager": Pair(
        lambda M: names(M(P).filter(store__name="north")), set_name(Store)
    ),
    "a cursor's INSERT": Pair(lists, lambda: sql("INSERT INTO shop_tag (name) VALUES (%s)", "raw")),
    "a cursor's UPDATE": Pair(lists, lambda: sql("UPDATE shop_product SET name = 'raw'")),
    "a cursor's DELETE": Pair(lists, lambda: sql("DELETE FROM shop_product_tags")),
    "executemany": Pair(
        lists, lambda: many("UPDATE shop_product SET stock = %s WHERE id = %s", (1, 1), (2, 2))
    ),
    "an UPDATE after a CTE": Pair(lists, WRITES["raw cte"]),
    "loaddata": Pair(
        lists, lambda: call_command("loaddata", str(FIXTURE), database=routing.active, verbosity=0)
    ),
    "RunPython, with historical models": Pair(lists, WRITES["migration"]),
}

# Statements that not every database knows.
OF_SERVERS = {
    "REPLACE": (
        ["sqlite", "mariadb"],
        Pair(
            lambda M: list(M(Slug).order_by("pk")),
            lambda: sql("REPLACE INTO shop_slug (slug, note) VALUES ('a:b', 'raw')"),
        ),
    ),
    "TRUNCATE": (
        ["postgres", "mariadb"],
        Pair(with_tags, lambda: sql("TRUNCATE shop_product_tags")),
    ),
    "MERGE": (
        ["postgres"],
        Pair(
            lists,
            lambda: sql(
                "MERGE INTO shop_tag t USING shop_category c ON t.id = c.id "
                "WHEN MATCHED THEN UPDATE SET name = c.name"
            ),
        ),
    ),
    "COPY": (["postgres"], Pair(lists, WRITES["raw copy"])),
    "callproc": (["postgres"], Pair(lists, WRITES["raw procedure"])),
    "an UPDATE with a JOIN": (
        ["mariadb"],
        Pair(
            lists,
            lambda: sql(
                "UPDATE shop_product p JOIN shop_category c ON c.id = p.category_id "
                "SET p.name = 'raw', c.name = 'raw'"
            ),
        ),
    ),
}


def check(pair: Pair) -> None:
    """The read is right before the write, and after it, and the write changes what it gives."""
    before = snapshot(pair.read(plain))
    for _ in range(2):
        assert snapshot(pair.read(cached)) == before
    pair.write()
    after = snapshot(pair.read(plain))
    assert after != before, "the write changes nothing: this would show nothing"
    for _ in range(2):
        assert snapshot(pair.read(cached)) == after


@pytest.fixture
def rows(sqlite: Any) -> Any:
    stock.fill()
    put_exhibits()
    return sqlite


@pytest.mark.parametrize("name", READS)
def test_a_read_is_right(name: str, rows: Any, queries: Queries) -> None:
    check(READS[name])
    with queries() as captured:
        READS[name].read(cached)
    assert bool(captured) == (name in LEFT_TO_THE_DATABASE)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_write_is_noticed(name: str, rows: Any) -> None:
    check(WRITTEN[name])


@pytest.mark.parametrize(
    ("name", "database"), [(name, each) for name, (of, _) in OF_SERVERS.items() for each in of]
)
def test_a_statement_of_some_databases_is_noticed(
    name: str, database: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(database)
    stock.fill()
    put_exhibits()
    check(OF_SERVERS[name][1])
