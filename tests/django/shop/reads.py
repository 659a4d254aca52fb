"""The catalogue of reads: name -> function of `M`, which gives a model's manager.

With `M = cached` a read may come from the cache, with `M = plain` it may not;
`snapshot` of both must be equal. Every read has a total order, so that equal
data gives equal results.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from asgiref.sync import async_to_sync
from django.db import models
from django.db.models import (
    Avg,
    Case,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    FilteredRelation,
    Max,
    Min,
    OuterRef,
    Prefetch,
    Q,
    StdDev,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.functions import (
    Cast,
    Coalesce,
    Concat,
    ExtractHour,
    Length,
    Lower,
    Now,
    Random,
    Rank,
    Round,
    RowNumber,
    TruncDay,
    TruncHour,
    Upper,
)
from django.utils import timezone

from shop.models import (
    ActiveProduct,
    Book,
    Both,
    Brand,
    Category,
    Detail,
    Discount,
    Leaf,
    Parcel,
    Payment,
    Product,
    Quick,
    Slug,
    Soft,
    Store,
)
from shop.stock import PARCELS

Manager = Callable[[Any], Any]
Read = Callable[[Manager], Any]


def cached(model: Any) -> Any:
    return model.cached


def plain(model: Any) -> Any:
    return model.objects


def snapshot(value: Any) -> Any:
    """A value with all that can be seen of it: types, order, attributes, loaded relations.

    An instance that is met again stands there as its number: relations may lead back, and which
    of them lead to the same object can be seen, too.
    """
    return _snapshot(value, {})


def _snapshot(value: Any, met: dict[int, int]) -> Any:
    if isinstance(value, models.Model):
        if id(value) in met:
            return ("again", met[id(value)])
        met[id(value)] = len(met)
        state = value._state
        return (
            type(value),
            [(k, _snapshot(v, met)) for k, v in value.__dict__.items() if not k.startswith("_")],
            state.db,
            state.adding,
            sorted(value.get_deferred_fields()),
            {k: _snapshot(v, met) for k, v in state.fields_cache.items()},
            {
                k: _snapshot(list(v), met)
                for k, v in value.__dict__.get("_prefetched_objects_cache", {}).items()
            },
        )
    if isinstance(value, models.QuerySet):
        return ("queryset", _snapshot(list(value), met))
    if isinstance(value, dict):
        return (dict, [(_snapshot(k, met), _snapshot(v, met)) for k, v in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [_snapshot(item, met) for item in value])
    if isinstance(value, (set, frozenset)):
        return (type(value), sorted(map(repr, value)))
    if isinstance(value, memoryview):
        return (memoryview, bytes(value))
    return (type(value), value, repr(value))


def outcome(read: Read, manager: Manager) -> Any:
    """The snapshot of a read's result, or its error."""
    try:
        return snapshot(read(manager))
    except Exception as error:
        return (type(error), str(error))


def _asynchronously(query: Callable[[], Any]) -> Any:
    async def awaited() -> Any:
        return await query()

    return async_to_sync(awaited)()


async def _listed(queryset: Any) -> list[Any]:
    return [row async for row in queryset]


def _zoned(zone: datetime.tzinfo, query: Callable[[], Any]) -> Any:
    with timezone.override(zone):
        return query()


def _first_category(M: Manager) -> Any:
    return M(Category).order_by("pk").first()


P, C = Product, Category

# Served from the cache at the second evaluation.
CACHED: dict[str, Read] = {
    # Shapes of results
    "all": lambda M: list(M(P).order_by("pk")),
    "filter bool": lambda M: list(M(P).filter(active=True).order_by("pk")),
    "exclude": lambda M: list(M(P).exclude(active=True).order_by("-pk")),
    "get": lambda M: M(P).get(pk=2),
    "get text": lambda M: M(P).get(pk="2"),
    "get absent": lambda M: M(P).get(pk=999),
    "get several": lambda M: M(P).get(active=True),
    "get by name": lambda M: M(P).get(name="product 3"),
    "get and filter": lambda M: M(P).get(pk=3, active=True),
    "first": lambda M: M(P).order_by("name").first(),
    "first of none": lambda M: M(P).filter(name="nobody").first(),
    "last": lambda M: M(P).order_by("name").last(),
    "earliest": lambda M: M(P).filter(day__isnull=False).earliest("day"),
    "latest": lambda M: M(P).filter(made__isnull=False).latest("made"),
    "earliest of none": lambda M: M(P).filter(pk=999).earliest("day"),
    "count": lambda M: M(P).count(),
    "count filtered": lambda M: M(P).filter(category=1).count(),
    "count of pk": lambda M: M(P).filter(pk__in=[1, 2, 999]).count(),
    "exists": lambda M: M(P).filter(active=False).exists(),
    "exists not": lambda M: M(P).filter(name="nobody").exists(),
    "exists by category": lambda M: M(P).filter(category=2).exists(),
    "contains": lambda M: M(P).filter(active=True).contains(P(pk=1)),
    "len": lambda M: len(M(P).filter(category=1)),
    "bool": lambda M: bool(M(P).filter(category=3)),
    "in_bulk": lambda M: M(P).in_bulk([1, 2, 999]),
    "in_bulk all": lambda M: M(C).in_bulk(),
    "in_bulk by field": lambda M: M(Brand).in_bulk(["ACME"], field_name="code"),
    "slice": lambda M: list(M(P).order_by("pk")[2:5]),
    "slice with limit": lambda M: list(M(P).order_by("pk")[:3]),
    "index": lambda M: M(P).order_by("pk")[1],
    "step": lambda M: M(P).order_by("pk")[0:6:2],
    "values": lambda M: list(M(P).order_by("pk").values()),
    "values some": lambda M: list(M(P).order_by("pk").values("name", "category__name")),
    "values_list": lambda M: list(M(P).order_by("pk").values_list("pk", "price")),
    "values_list flat": lambda M: list(M(P).order_by("pk").values_list("data", flat=True)),
    "values_list named": lambda M: [
        row._asdict() for row in M(P).order_by("pk").values_list("pk", "made", named=True)
    ],
    "values of one category": lambda M: list(M(P).filter(category=1).order_by("pk").values("name")),
    "only": lambda M: list(M(P).order_by("pk").only("name")),
    "defer": lambda M: list(M(P).order_by("pk").defer("data", "price")),
    "only related": lambda M: list(
        M(P).select_related("category").only("name", "category__name").order_by("pk")
    ),
    "dates": lambda M: list(M(P).dates("day", "month", order="DESC")),
    "datetimes": lambda M: list(M(P).datetimes("made", "day")),
    "datetimes elsewhere": lambda M: list(
        M(P).datetimes("made", "hour", tzinfo=datetime.timezone(datetime.timedelta(hours=9)))
    ),
    "distinct": lambda M: list(M(P).order_by("active").values_list("active").distinct()),
    "distinct rows": lambda M: list(M(P).filter(tags__pk__gt=0).order_by("pk").distinct()),
    "reverse": lambda M: list(M(P).order_by("pk").reverse()),
    "order by relation": lambda M: list(M(P).order_by("category__name", "pk")),
    "order by nulls": lambda M: list(M(P).order_by(F("stock").desc(nulls_last=True), "pk")),
    "model ordering": lambda M: list(M(C).all()),
    # Types
    "decimal": lambda M: list(M(P).order_by("pk").values_list("price", flat=True)),
    "detail types": lambda M: list(M(Detail).order_by("pk")),
    "uuid": lambda M: list(M(Parcel).order_by("pk")),
    "uuid get": lambda M: M(Parcel).get(pk=PARCELS[0]),
    "uuid by text": lambda M: M(Parcel).get(pk=str(PARCELS[1])),
    "uuid absent": lambda M: M(Parcel).get(pk=PARCELS[2]),
    "uuid key": lambda M: list(M(Parcel).filter(inner=PARCELS[0])),
    "money": lambda M: list(M(Payment).defer("status").order_by("pk")),
    "by own key": lambda M: list(M(Payment).defer("status").filter(clerk=2).order_by("pk")),
    "by till": lambda M: list(M(Payment).defer("status").filter(till=1).order_by("pk")),
    "money values": lambda M: list(M(Payment).values_list("amount", flat=True)),
    "money aggregate": lambda M: M(Payment).aggregate(top=Max("amount")),
    "text key": lambda M: M(Slug).get(pk="a:b"),
    "text keys": lambda M: list(M(Slug).filter(pk__in=["a:b", "x"]).order_by("pk")),
    "proxy": lambda M: list(M(Discount).order_by("pk")),
    "proxy by category": lambda M: list(M(Discount).filter(category=1).order_by("pk")),
    "child": lambda M: list(M(Book).order_by("pk")),
    "child get": lambda M: M(Book).get(author="x"),
    "child by pk": lambda M: list(M(Book).filter(pk__in=[9, 10]).order_by("pk")),
    "child by its key": lambda M: list(M(Book).filter(shelf=1).order_by("pk")),
    "child by parent's key": lambda M: list(M(Book).filter(category=1).order_by("pk")),
    "child of two": lambda M: list(M(Both).filter(store=1).order_by("pk")),
    "abstract base": lambda M: list(M(Leaf).order_by("pk")),
    "own queryset": lambda M: list(M(Soft).here().order_by("pk")),
    "only cached": lambda M: M(Quick).get(name="quick"),
    # Filters
    "by category": lambda M: list(M(P).filter(category=1).order_by("pk")),
    "by category text": lambda M: list(M(P).filter(category="1").order_by("pk")),
    "by category instance": lambda M: list(M(P).filter(category=C(pk=1)).order_by("pk")),
    "by category id": lambda M: list(M(P).filter(category_id=2).order_by("pk")),
    "by category pk": lambda M: list(M(P).filter(category__pk=2).order_by("pk")),
    "by categories": lambda M: list(M(P).filter(category__in=[1, 4]).order_by("pk")),
    "by category and more": lambda M: list(
        M(P).filter(category=1, active=True, stock__gt=5).order_by("pk")
    ),
    "by category ordered": lambda M: list(M(P).filter(category=1).order_by("-stock", "pk")[:2]),
    "by category offset": lambda M: list(M(P).filter(category=1).order_by("-stock", "pk")[1:3]),
    "by category none": lambda M: list(M(P).filter(category=3).order_by("pk")),
    "by category null": lambda M: list(M(P).filter(category=None).order_by("pk")),
    "by two keys": lambda M: list(M(P).filter(category=1, store=1).order_by("pk")),
    "by either key": lambda M: list(M(P).filter(Q(category=1) | Q(store=1)).order_by("pk")),
    "by text key": lambda M: list(M(P).filter(brand="ACME").order_by("pk")),
    "by self key": lambda M: list(M(P).filter(related=1).order_by("pk")),
    "not in category": lambda M: list(M(P).exclude(category=1).order_by("pk")),
    "pk in": lambda M: list(M(P).filter(pk__in=[3, 1, 999]).order_by("pk")),
    "pk in and": lambda M: list(M(P).filter(pk__in=[3, 1], active=True).order_by("pk")),
    "pk range": lambda M: list(M(P).filter(id__range=(2, 5)).order_by("pk")),
    "pk by joins": lambda M: list(
        M(C).filter(pk__in=[1, 999]).order_by("pk", "product__pk").values("pk", "product__name")
    ),
    "join": lambda M: list(M(P).filter(category__name="a").order_by("pk")),
    "join twice": lambda M: list(M(P).filter(category__parent__name="a").order_by("pk")),
    "reverse join": lambda M: list(M(C).filter(product__active=True).distinct().order_by("pk")),
    "exclude over many": lambda M: list(M(C).exclude(product__active=True).order_by("pk")),
    "many to many": lambda M: list(M(P).filter(tags__name="new").order_by("pk")),
    "category and its products": lambda M: list(
        M(P).filter(category=1, category__product__active=True).order_by("pk").distinct()
    ),
    "pk and self join": lambda M: M(P).get(pk=3, related__active=True),
    "pk and its relatives": lambda M: list(
        M(P).filter(pk=1, relatives__active=True).order_by("pk").distinct()
    ),
    "pk and the rest of its category": lambda M: (
        M(P)
        .annotate(
            n=Subquery(
                Product.objects.filter(category=OuterRef("category"), active=True)
                .order_by("-stock", "pk")
                .values("name")[:1]
            )
        )
        .get(pk=4)
    ),
    "key and self join": lambda M: list(M(P).filter(category=1, related__active=True)),
    "json": lambda M: list(M(P).filter(data__n=3).order_by("pk")),
    "json deep": lambda M: list(M(P).filter(data__list__2__deep="ü").order_by("pk")),
    "lookups": lambda M: list(
        M(P)
        .filter(name__icontains="PROD", price__gte=Decimal("0.2"), name__endswith="3")
        .order_by("pk")
    ),
    "regex": lambda M: list(M(P).filter(name__regex=r"[2-4]$").order_by("pk")),
    "date parts": lambda M: list(M(P).filter(made__date=datetime.date(2024, 3, 1)).order_by("pk")),
    "f in filter": lambda M: list(M(P).filter(stock__gt=F("pk") * 9).order_by("pk")),
    "xor": lambda M: list(M(P).filter(Q(active=True) ^ Q(category=1)).order_by("pk")),
    "empty filter": lambda M: list(M(P).filter(pk=3).filter(category=None).order_by("pk")),
    # Relations
    "select_related": lambda M: list(
        M(P).select_related("category", "store", "brand").order_by("pk")
    ),
    "select_related by key": lambda M: list(
        M(P).select_related("category__parent").filter(category_id=4).order_by("pk")
    ),
    "select_related reverse": lambda M: list(M(P).select_related("detail").order_by("pk")),
    "select_related self": lambda M: list(
        M(P).select_related("related").filter(category=1).order_by("pk")
    ),
    "prefetch many": lambda M: list(M(P).prefetch_related("tags").order_by("pk")),
    "prefetch reverse": lambda M: list(M(C).prefetch_related("product_set").order_by("pk")),
    "prefetch deep": lambda M: list(M(C).prefetch_related("product_set__tags").order_by("pk")),
    "prefetch ordered": lambda M: [
        (c.pk, c.best)
        for c in M(C)
        .prefetch_related(
            Prefetch("product_set", M(P).filter(active=True).order_by("-pk"), to_attr="best")
        )
        .order_by("pk")
    ],
    "prefetch without manager": lambda M: list(
        M(P).prefetch_related("store", "related").order_by("pk")
    ),
    "page's complex one": lambda M: list(
        M(P)
        .filter(Q(category__in=[1, 2, 3]) | Q(price__lt=100), active=True)
        .select_related("category")
        .prefetch_related("tags")
        .order_by("pk")
    ),
    # Expressions
    "page's count": lambda M: list(M(C).annotate(product_count=Count("product"))),
    "count two": lambda M: list(
        M(C).annotate(n=Count("product", distinct=True), m=Count("below", distinct=True))
    ),
    "count filter": lambda M: list(
        M(C).annotate(n=Count("product", filter=Q(product__active=True))).filter(n__gte=0)
    ),
    "having": lambda M: list(M(C).annotate(n=Count("product")).filter(n__gt=1).order_by("pk")),
    "group": lambda M: list(
        M(P).values("category").annotate(n=Count("pk"), top=Max("price")).order_by("category")
    ),
    "group of one": lambda M: list(
        M(P).filter(category=1).values("active").annotate(n=Count("pk")).order_by("active")
    ),
    "aggregate": lambda M: M(P).aggregate(
        Avg("price"), Sum("stock"), low=Min("day"), n=Count("pk"), d=StdDev("pk")
    ),
    "aggregate of none": lambda M: M(P).filter(pk=999).aggregate(Sum("price"), n=Count("pk")),
    "aggregate by category": lambda M: M(P).filter(category=1).aggregate(total=Sum("price")),
    "aggregate of slice": lambda M: M(P).order_by("pk")[:3].aggregate(Sum("stock")),
    "aggregate of distinct": lambda M: M(P).values("category").distinct().count(),
    "annotated": lambda M: list(
        M(P)
        .annotate(
            up=Upper("name"),
            size=Length("name"),
            both=Concat("name", Value("/"), Lower("name")),
            worth=ExpressionWrapper(
                F("price") * F("stock"), models.DecimalField(max_digits=12, decimal_places=2)
            ),
            text=Cast("pk", models.CharField(max_length=9)),
            some=Coalesce("stock", 0),
            low=Round("price"),
        )
        .order_by("pk")
    ),
    "annotation order": lambda M: list(
        M(P).filter(category=1).annotate(some=Coalesce("stock", 999)).order_by("some", "pk")[:2]
    ),
    "alias": lambda M: list(M(P).alias(some=Coalesce("stock", 1)).filter(some=1).order_by("pk")),
    "case": lambda M: list(
        M(P)
        .annotate(kind=Case(When(active=True, then=Value("on")), default=Value("off")))
        .order_by("kind", "pk")
    ),
    "subquery": lambda M: list(
        M(C)
        .annotate(
            dearest=Subquery(
                Product.objects.filter(category=OuterRef("pk"))
                .order_by("-price", "pk")
                .values("name")[:1]
            )
        )
        .order_by("pk")
    ),
    "exists expression": lambda M: list(
        M(C).filter(Exists(Product.objects.filter(category=OuterRef("pk"), active=True)))
    ),
    "not exists of itself": lambda M: list(
        M(P)
        .filter(
            ~Exists(Product.objects.filter(category=OuterRef("category"), pk__lt=OuterRef("pk"))),
            category=1,
        )
        .order_by("pk")
    ),
    "in subquery": lambda M: list(
        M(P).filter(category__in=Category.objects.filter(rank__gt=0)).order_by("pk")
    ),
    "filtered relation": lambda M: list(
        M(C)
        .annotate(shown=FilteredRelation("product", condition=Q(product__active=True)))
        .filter(shown__isnull=False)
        .order_by("pk", "shown__pk")
        .values_list("pk", "shown__name")
    ),
    "window": lambda M: list(
        M(P)
        .annotate(
            place=Window(Rank(), partition_by="category", order_by=["-price", "pk"]),
            row=Window(RowNumber(), order_by="pk"),
        )
        .order_by("pk")
    ),
    "window by category": lambda M: list(
        M(P).filter(category=1).annotate(place=Window(Rank(), order_by="-pk")).order_by("pk")[:2]
    ),
    "window filter": lambda M: list(
        M(P)
        .annotate(place=Window(RowNumber(), partition_by="category", order_by="pk"))
        .filter(place=1, category=1)
        .order_by("pk")
    ),
    "trunc": lambda M: list(
        M(P)
        .filter(made__isnull=False)
        .annotate(h=TruncHour("made"), d=TruncDay("made"), e=ExtractHour("made"))
        .order_by("pk")
        .values("pk", "h", "d", "e")
    ),
    "trunc elsewhere": lambda M: _zoned(
        datetime.timezone(datetime.timedelta(hours=-8)),
        lambda: list(M(P).annotate(d=TruncDay("made")).order_by("pk").values("pk", "d")),
    ),
    # Combined
    "union": lambda M: sorted(
        M(P).filter(category=1).union(M(P).filter(active=True)).values_list("pk", flat=True)
    ),
    "union all": lambda M: list(
        M(P).filter(pk=1).union(M(P).filter(pk=2), all=True).order_by("pk")
    ),
    "union of models": lambda M: list(
        M(P)
        .filter(pk=1)
        .values_list("name")
        .union(M(C).order_by().values_list("name"))
        .order_by("name")
    ),
    "union with empty": lambda M: list(
        M(P).filter(pk=5, category__in=[]).union(M(P).filter(active=True)).order_by("pk")
    ),
    "intersection": lambda M: list(
        M(P).filter(category=1).intersection(M(P).filter(active=True)).order_by("pk")
    ),
    "difference": lambda M: list(
        M(P).filter(category=1).difference(M(P).filter(active=True)).order_by("pk")
    ),
    "or": lambda M: list((M(P).filter(category=1) | M(P).filter(active=False)).order_by("pk")),
    "and": lambda M: list((M(P).filter(category=1) & M(P).filter(active=True)).order_by("pk")),
    # Asynchronous
    "async list": lambda M: _asynchronously(lambda: _listed(M(P).order_by("pk"))),
    "aget": lambda M: _asynchronously(lambda: M(P).aget(pk=1)),
    "acount": lambda M: _asynchronously(lambda: M(P).filter(active=True).acount()),
    "afirst": lambda M: _asynchronously(lambda: M(P).order_by("pk").afirst()),
    "ain_bulk": lambda M: _asynchronously(lambda: M(P).ain_bulk([1, 2])),
    "aaggregate": lambda M: _asynchronously(lambda: M(P).aaggregate(Sum("stock"))),
    "aexists": lambda M: _asynchronously(lambda: M(P).aexists()),
    # Related managers
    "manager of a relation": lambda M: list(
        _first_category(M).product_set(manager="cached").order_by("pk")
        if M is cached
        else _first_category(M).product_set.order_by("pk")
    ),
}

# Read from the database each time.
UNCACHED: dict[str, Read] = {
    "iterator": lambda M: list(M(P).order_by("pk").iterator()),
    "iterator chunks": lambda M: list(
        M(P).prefetch_related("tags").order_by("pk").iterator(chunk_size=3)
    ),
    "aiterator": lambda M: _asynchronously(lambda: _listed(M(P).order_by("pk").aiterator())),
    "raw": lambda M: list(M(P).raw("SELECT * FROM shop_product ORDER BY id")),
    "explain": lambda M: type(M(P).explain()),
    "no_cache": lambda M: list(M(P).no_cache().order_by("pk")),
    "now": lambda M: list(M(P).filter(made__lt=Now()).order_by("pk")),
    "now annotated": lambda M: [
        p.pk for p in M(P).annotate(t=Now()).filter(t__isnull=False).order_by("pk")
    ],
    "now below": lambda M: list(
        M(C).filter(Exists(Product.objects.filter(category=OuterRef("pk"), made__lt=Now())))
    ),
    "now in case": lambda M: [
        c.pk for c in M(C).annotate(t=Case(When(rank=0, then=Now()), default=None)).order_by("pk")
    ],
    "now in prefetch": lambda M: [
        [p.pk for p in c.product_set.all()]
        for c in M(C).prefetch_related(Prefetch("product_set", M(P).filter(made__lt=Now())))
    ],
    "random order": lambda M: sorted(p.pk for p in M(P).order_by("?")),
    "random value": lambda M: [p.pk for p in M(P).annotate(r=Random()).order_by("pk")],
    "func": lambda M: list(M(P).annotate(x=models.Func("name", function="UPPER")).order_by("pk")),
    "func in filter": lambda M: list(
        M(P).filter(name=models.Func(Value("PRODUCT 1"), function="LOWER")).order_by("pk")
    ),
    "known function, own SQL": lambda M: list(
        M(P).annotate(x=Upper("name", function="LOWER")).order_by("pk")
    ),
    "known function, own template": lambda M: [
        p.pk for p in M(P).annotate(x=Upper("name", template="RANDOM()")).order_by("pk")
    ],
    "aggregate, own SQL": lambda M: M(P).aggregate(x=Max("stock", function="MIN")),
    "subquery, own template": lambda M: list(
        M(C)
        .annotate(n=Subquery(Store.objects.values("pk")[:1], template="(SELECT 1)"))
        .order_by("pk")
    ),
    "raw sql": lambda M: list(
        M(P)
        .annotate(x=models.expressions.RawSQL("stock + %s", [1], models.IntegerField()))
        .order_by("pk")
    ),
    "extra select": lambda M: list(M(P).extra(select={"x": "stock + 1"}).order_by("pk")),
    "extra where": lambda M: list(M(P).extra(where=["stock > 10"]).order_by("pk")),
    "extra tables": lambda M: list(
        M(P)
        .extra(tables=["shop_store"], where=["shop_store.id = shop_product.store_id"])
        .order_by("pk")
    ),
    "extra order": lambda M: list(M(P).extra(order_by=["shop_product.stock", "id"])),
    "own field SQL": lambda M: list(M(Payment).order_by("pk")),
    "view": lambda M: list(M(ActiveProduct).order_by("pk")),
    "join to a view": lambda M: list(
        M(P).filter(name__in=ActiveProduct.objects.values("name")).order_by("pk")
    ),
    "values of now": lambda M: len(M(P).values_list(Now())),
}

# No query at all.
EMPTY: dict[str, Read] = {
    "none": lambda M: list(M(P).none()),
    "in nothing": lambda M: list(M(P).filter(pk__in=[])),
    "count of nothing": lambda M: M(P).filter(pk__in=[]).count(),
    "exists of nothing": lambda M: M(P).none().exists(),
    "aggregate of nothing": lambda M: M(P).none().aggregate(n=Count("pk"), s=Sum("price")),
}

# An error before any query.
ERRORS: dict[str, Read] = {
    "no such field": lambda M: M(P).filter(nope=1),
    "pk of another kind": lambda M: M(P).filter(pk="abc"),
    "negative index": lambda M: M(P).order_by("pk")[-1],
    "filter a slice": lambda M: M(P).order_by("pk")[:2].filter(active=True),
    "bad uuid": lambda M: M(Parcel).filter(pk="no uuid"),
    "bad relation": lambda M: list(M(P).select_related("nope")),
    "bad prefetch": lambda M: list(M(P).prefetch_related("nope")),
    "bad aggregate": lambda M: M(P).aggregate(x=Sum("nope")),
    "last of unordered slice": lambda M: M(P).all()[:3].last(),
    "update a slice": lambda M: M(P).order_by("pk")[:1].update(stock=1),
    "delete a slice": lambda M: M(P).order_by("pk")[:1].delete(),
    "values of nothing known": lambda M: M(P).values("nope"),
    "in_bulk not unique": lambda M: M(P).in_bulk([1], field_name="name"),
    "annotation conflict": lambda M: M(P).annotate(name=Value(1)),
    "union filter": lambda M: M(P).union(M(P).all()).filter(pk=1),
}
