"""Querysets that are built only when Django's query is asked for.

Made of calls that recipes.py knows, such a queryset holds its recipe and no
query. Whoever asks for `query` may change it: from then on the queryset is an
ordinary one. Methods that are not here ask for it, and so are Django's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, router
from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable

from zoocache.contrib.django import plans, recipes, steps
from zoocache.contrib.django.reading import Mark, mark_of
from zoocache.contrib.django.recipes import Call, Recipe, Shape

M = TypeVar("M", bound=Model)

_new: Callable[[Any], Any] = object.__new__
_at_hand: Callable[[Any], Any] = plans.ROWS.near.rows


class _Left:
    """What related managers and writes leave in a queryset: it is not its recipe's any more."""

    def __init__(self, default: Any = False) -> None:
        self.default = default

    def __set_name__(self, owner: Any, name: str) -> None:
        self.name = name

    def __get__(self, queryset: Any, owner: Any = None) -> Any:
        return self if queryset is None else queryset.__dict__.get(self.name, self.default)

    def __set__(self, queryset: Any, value: Any) -> None:
        if value and queryset._recipe is not None:
            queryset._forget_recipe()
        queryset.__dict__[self.name] = value


class _LeftDict(_Left):
    def __get__(self, queryset: Any, owner: Any = None) -> Any:
        return self if queryset is None else queryset.__dict__.setdefault(self.name, {})


class _Hints(_LeftDict):
    """Hints are the router's business, and go on with a recipe."""

    def __set__(self, queryset: Any, value: Any) -> None:
        queryset.__dict__[self.name] = value


class LazyQuerySet(QuerySet[M]):
    """A queryset with a recipe, or without one: then it is Django's own."""

    if TYPE_CHECKING:
        _aggregated: Callable[..., Any]
        _bulk: Callable[..., Any]
        _few: Callable[..., Any]
        _first_by: Callable[..., Any]
        _keyed: Callable[..., Any]
        _last: Callable[..., Any]
        _last_by: Callable[..., Any]
        _limited: Callable[..., Any]
        _one: Callable[..., Any]

    _recipe: Recipe | None = None

    # As QuerySet.__init__ sets them: what a recipe makes has only what differs.
    _db: str | None = None
    _defer_next_filter = _Left()
    _deferred_filter: Any = None
    _fields: Any = None
    _for_write = _Left()
    _hints = _Hints()
    _known_related_objects = _LeftDict()
    _iterable_class: Any = ModelIterable
    _prefetch_done = False
    _prefetch_related_lookups: Any = ()
    _query: Any = None
    _result_cache: Any = None
    _sticky_filter = _Left()

    # What Django's methods look at

    @property
    def query(self) -> Any:
        if self._recipe is not None:
            self._forget_recipe()
        return QuerySet.query.fget(self)  # type: ignore[attr-defined]

    @query.setter
    def query(self, value: Any) -> None:
        self._recipe = None
        QuerySet.query.fset(self, value)  # type: ignore[attr-defined]

    def _forget_recipe(self) -> None:
        recipe = self._recipe  # None: another thread was faster, as it may be with a manager's
        if recipe is not None and self._query is None:
            self._query = self._built(recipe)._query
        self._recipe = None

    def _built(self, recipe: Recipe) -> Any:
        """The queryset that Django makes of its recipe."""
        kind = type(self)
        built = kind.__new__(kind)
        if self._query is not None:
            built.__dict__.update(self.__dict__, _recipe=None, _result_cache=None)
            return built
        QuerySet.__init__(built, model=self.model, using=self._db, hints=self._hints)
        return recipes.build(recipe, built)

    @property
    def ordered(self) -> bool:
        return super().ordered if self._recipe is None else self._recipe[0].ordered

    def __getstate__(self) -> Any:
        if self._recipe is not None:
            self._fetch_all()
            self._forget_recipe()
        return super().__getstate__()

    def __deepcopy__(self, memo: Any) -> Any:
        if self._recipe is not None:
            self._forget_recipe()
        return super().__deepcopy__(memo)

    # What is found without asking Django

    def _answer(self, question: plans.Question) -> Any:
        """The answer to a question, as far as it can be had by the recipe; else None."""
        found = question.near.answer(self)
        if found is not None:
            return found
        recipe = self._recipe
        if recipe is None:
            return None
        alias = self._alias()
        found = plans.find(question, recipe, alias)
        return plans.ask(question, self, alias) if found is None else found

    def _alias(self) -> str:
        alias = self._db
        if alias is not None:
            return alias
        plain = not (router.routers or self.__dict__.get("_hints"))
        return DEFAULT_DB_ALIAS if plain else self.db

    def _fetch_all(self) -> None:
        prefetched = self._prefetch_related_lookups
        if self._result_cache is None and self._recipe is not None:
            if not prefetched:
                found = self._result_cache = self._answer(plans.ROWS)
                if found is not None:
                    return
            else:
                whole = plans.whole(self, self._alias(), self._fetch_parts)
                if whole is not None:
                    self._result_cache, self._prefetch_done = whole, True
        if self._result_cache is None or prefetched:
            super()._fetch_all()

    def _fetch_parts(self) -> None:
        self._result_cache = self._answer(plans.ROWS)
        super()._fetch_all()

    def __iter__(self) -> Iterator[Any]:
        found = _at_hand(self)
        if found is None:
            self._fetch_all()
            found = self._result_cache
        return iter(found)

    def __len__(self) -> int:
        found = _at_hand(self)
        if found is None:
            self._fetch_all()
            found = self._result_cache
        return len(found)

    def count(self) -> int:
        found = None
        if self._result_cache is None and self._recipe is not None:
            found = self._answer(plans.COUNT)
        return super().count() if found is None else found

    def exists(self) -> bool:
        found = None
        if self._result_cache is None and self._recipe is not None:
            found = self._answer(plans.EXISTS)
        return super().exists() if found is None else found

    def aggregate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        found = None
        if self._recipe is not None:
            found = self._aggregated(*args, **kwargs)._answer(plans.AGGREGATES)
        return found[0] if found else super().aggregate(*args, **kwargs)

    def get(self, *args: Any, **kwargs: Any) -> M:
        if self._recipe is None or not _may_ask(type(self)):
            return super().get(*args, **kwargs)
        return get(self, args, kwargs)  # type: ignore[no-any-return]

    def first(self) -> M | None:
        if self._recipe is None or self._result_cache is not None or not _may_ask(type(self)):
            return super().first()
        for found in self._one():
            return found  # type: ignore[no-any-return]
        return None

    def last(self) -> M | None:
        if self._recipe is None or self._result_cache is not None or not _may_ask(type(self)):
            return super().last()
        for found in self._last():
            return found  # type: ignore[no-any-return]
        return None

    def earliest(self, *fields: Any) -> M:
        by = self._by(fields)
        return _only(self._first_by(*by)) if by else super().earliest(*fields)

    def latest(self, *fields: Any) -> M:
        by = self._by(fields)
        return _only(self._last_by(*by)) if by else super().latest(*fields)

    def _by(self, fields: tuple[Any, ...]) -> Any:
        """What `earliest` and `latest` order by; None: Django must say."""
        if self._recipe is None or not _may_ask(type(self)):
            return None
        by = fields or self.model._meta.get_latest_by
        return (by,) if isinstance(by, str) else by

    def in_bulk(self, id_list: Any = None, *, field_name: Any = "pk") -> dict[Any, M]:
        kinds, found = (list, tuple, set, frozenset), None
        own = self._recipe is not None and self._iterable_class is ModelIterable
        known = own and _may_ask(type(self))
        if id_list is None and known:
            found = self._keyed(field_name)
        elif known and type(id_list) in kinds and 0 < len(id_list) <= recipes.MOST_IN_A_LIST:
            found = self._bulk(**{f"{field_name}__in": tuple(id_list)})
        if found is None:
            return super().in_bulk(id_list, field_name=field_name)
        return {getattr(one, field_name): one for one in found}

    def contains(self, obj: Any) -> bool:
        ours = self._recipe is not None and self._fields is None and self._result_cache is None
        if not ours or not isinstance(obj, Model) or type(obj.pk) not in (int, str):
            return super().contains(obj)
        if obj._meta.concrete_model is not self.model._meta.concrete_model:
            return False
        return bool(self.filter(pk=obj.pk).exists())

    def __getitem__(self, k: Any) -> Any:
        if self._recipe is None or self._result_cache is not None:
            return super().__getitem__(k)
        if type(k) is slice:
            limits = (k.start, k.stop)
            plain = all(end is None or (type(end) is int and end >= 0) for end in limits)
            if plain and k.step is None:
                return self._limited(*limits)
        elif type(k) is int and k == 0:  # each of the others would be a shape of its own
            first = self._limited(0, 1)
            first._fetch_all()
            return first._result_cache[0]
        return super().__getitem__(k)

    def all(self) -> Any:
        recipe = self._recipe
        return super().all() if recipe is None else steps.taken(self, *recipe)

    def using(self, alias: str | None) -> Any:
        recipe = self._recipe
        if recipe is None:
            return super().using(alias)
        clone = steps.taken(self, *recipe)
        clone._db = alias
        return clone


@functools.cache
def _may_ask(kind: type[Any]) -> bool:
    """Is what Django's get(), first() and the like evaluate the same each time? They go through
    methods of the queryset, and somebody's own may say another thing, or evaluate one themselves.
    """
    through = ("__getitem__", "__iter__", "__len__", "filter", "get", "order_by", "reverse")
    return all(getattr(kind, name) is getattr(LazyQuerySet, name) for name in through)


def mark_in(queryset: Any) -> Mark | None:
    """The mark of a queryset's query, which need not be built for that."""
    return mark_of(queryset.query) if queryset._recipe is None else queryset._recipe[0].mark


def get(queryset: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What get() of a queryset with a recipe gives or raises."""
    found, its = None, queryset._recipe
    # Most calls are such, and need no queryset. A manager's may lose its recipe at any moment, to
    # another thread.
    if len(kwargs) == 1 and not args and its is not None:
        ((lookup, value),) = kwargs.items()
        shape, values = its
        few = shape.quick.get(("_few", lookup, type(value)))
        if few is not None and not few[0].has_prefetches:
            recipe = few[0], (*values, value)
            found = plans.ROWS.near.find(queryset, recipe)
            if found is None:
                found = plans.find(plans.ROWS, recipe, queryset._alias())
    if found is None:
        limited = queryset._few(*args, **kwargs)
        limited._fetch_all()
        found = limited._result_cache
    if len(found) == 1:
        return found[0]
    if found:
        return QuerySet.get(queryset, *args, **kwargs)  # which knows what to say
    raise _absent(queryset.model)


def _only(queryset: Any) -> Any:
    """What get() gives or raises of a queryset that is limited to one row."""
    for found in queryset:
        return found
    raise _absent(queryset.model)


def _absent(model: Any) -> Exception:
    return model.DoesNotExist(  # type: ignore[no-any-return]
        f"{model._meta.object_name} matching query does not exist."
    )


def _learn(
    queryset: Any, recipe: Recipe, key: Any, call: Call, known: steps.Method, args: Any, kwargs: Any
) -> Any:
    """Lets Django make the call, for the first time of its kind."""
    shape, values = recipe
    plain = queryset._built(recipe)
    query = plain.query
    result = known.method(plain, *args, **kwargs)
    recipes.note_shape()
    if not known.is_known(query, call) or not isinstance(result, LazyQuerySet):
        shape.children[key] = None
        return result
    replay = known.replay(call, args, kwargs)
    child = shape.children[key] = Shape(shape, key, replay, len(call[1]), result)
    result._recipe = child, values + call[1]
    return result


grows: dict[str, steps.Grow] = {}
"""By name, what methods of LazyQuerySet do."""


def record(kind: type[Any], name: str, take: Any = recipes.take_names) -> None:
    """Lets a method of a queryset class go into recipes."""
    method = steps.OWN.get(name) or getattr(kind, name)
    grow = steps.growing(name, method, take, _learn)
    if kind is LazyQuerySet:
        grows[name] = grow
    setattr(kind, name, steps.method_of(grow, method))


for _name in ("_bulk", "_few", "filter", "exclude"):
    record(LazyQuerySet, _name, recipes.take_conditions)
for _name in ("_aggregated", "annotate"):
    record(LazyQuerySet, _name, recipes.take_aggregates)
for _name in (
    "_first_by",
    "_keyed",
    "_last",
    "_last_by",
    "_limited",
    "_one",
    "defer",
    "distinct",
    "only",
    "order_by",
    "prefetch_related",
    "reverse",
    "values",
):
    record(LazyQuerySet, _name)
# Without a name Django warns, at each call.
for _name in ("select_related", "values_list"):
    record(LazyQuerySet, _name, recipes.take_some_names)
