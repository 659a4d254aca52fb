"""`{% cached %}`: fragments that are dropped when what they show changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.template import Context, RequestContext, Template, TemplateSyntaxError
from django.test import RequestFactory
from django.utils import timezone, translation
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy
from shop.models import Category, Product, Store

Queries = Callable[..., Any]
Elsewhere = Callable[[Callable[[], Any]], Any]

LIST = "{% for p in products %}{{ p.name }}: {{ p.category.name }};{% endfor %}"


def render(source: str, **values: Any) -> str:
    return Template("{% load zoocache %}" + source).render(Context(values))


def rename(model: Any, pk: Any, name: str) -> None:
    model.objects.filter(pk=pk).update(name=name)


def products() -> Any:
    return Product.objects.filter(category_id__isnull=False).order_by("pk")[:2]


def test_a_fragment_depends_on_what_it_reads(shop: Any, queries: Queries) -> None:
    read = lambda: render("{% cached products %}" + LIST + "{% endcached %}", products=products())  # noqa: E731
    first = read()
    assert first == render(LIST, products=products())
    with queries(0):
        assert read() == first
    rename(Store, 1, "not shown")
    with queries(0):
        assert read() == first
    rename(Product, products()[0].pk, "renamed")
    assert "renamed" in read()
    rename(Category, products()[0].category_id, "moved")
    assert "renamed: moved" in read()


def test_values_tell_fragments_apart(shop: Any) -> None:
    source = "{% cached 'name' number %}{{ number }}{% endcached %}"
    assert [render(source, number=n) for n in (1, 2, 1, True, "1")] == ["1", "2", "1", "True", "1"]
    other = "{% cached 'name' number %}no. {{ number }}{% endcached %}"
    assert render(other, number=1) == "no. 1"


def test_an_instance_counts_with_what_is_loaded(shop: Any, queries: Queries) -> None:
    source = "{% cached product %}{{ product.name }}{% endcached %}"
    product = Product.objects.get(pk=1)
    assert render(source, product=product) == "product 1"
    product.name = "edited, not saved"
    assert render(source, product=product) == "edited, not saved"
    assert render(source, product=Product.objects.get(pk=1)) == "product 1"


def test_querysets_tell_fragments_apart(shop: Any) -> None:
    source = "{% cached products %}{{ products.count }}{% endcached %}"
    assert render(source, products=Product.objects.filter(pk=1)) == "1"
    assert render(source, products=Product.objects.filter(pk__in=[1, 2])) == "2"
    assert render(source, products=Product.objects.none()) == "0"
    assert render(source, products=Product.objects) == str(Product.objects.count())


def test_language_time_zone_and_autoescape(shop: Any) -> None:
    source = "{% cached %}{% load i18n tz %}{{ 1.5 }}{% get_current_timezone as z %}{{ z }}{{ t }}"
    source = source.replace("{% cached %}", "{% cached t %}") + "{% endcached %}"
    seen = {render(source, t="<")}
    with timezone.override("Asia/Tokyo"):
        seen.add(render(source, t="<"))
    with translation.override("de"):
        seen.add(render(source, t="<"))
    off = Template("{% load zoocache %}" + source).render(Context({"t": "<"}, autoescape=False))
    assert len(seen | {off}) >= 3
    assert off.endswith("<")
    assert render(source, t="<").endswith("&lt;")


def test_what_comes_back_is_safe(shop: Any) -> None:
    node = Template("{% load zoocache %}{% cached 1 %}<b>{% endcached %}").nodelist[-1]
    for _ in range(2):
        assert type(node.render_annotated(Context())) is SafeString


@pytest.mark.parametrize(
    "block",
    [
        "{{ user }}",
        "{{ user.name|upper }}",
        "{% if request.user %}x{% endif %}",
        "{% csrf_token %}",
        "{% for m in messages %}{{ m }}{% endfor %}",
        "{% with u=user %}{{ u }}{% endwith %}",
        "{% if a %}{% else %}{{ perms.shop }}{% endif %}",
        "{{ a|default:user }}",
    ],
)
def test_what_belongs_to_a_user_is_not_cached(
    block: str, shop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    source = "{% cached 1 %}{{ number }}" + block + "{% endcached %}"
    values = {"messages": [], "csrf_token": "t"}
    assert render(source, number=1, user="ann", **values).startswith("1")
    assert render(source, number=2, user="bob", **values).startswith("2")
    assert "may differ from user to user" in caplog.text


def test_a_user_who_is_given_is_part_of_the_name(shop: Any) -> None:
    source = "{% cached user %}{{ user }}{{ number }}{% endcached %}"
    shown = [render(source, user=user, number=n) for n, user in enumerate(["ann", "bob", "ann"])]
    assert shown == ["ann0", "bob1", "ann0"]


@pytest.mark.parametrize(
    "value",
    [
        lambda: SimpleLazyObject(lambda: Product.objects.get(pk=1)),
        lambda: SimpleLazyObject(lambda: Product(pk=1)),
        lambda: Product(name="unsaved"),
        lambda: gettext_lazy("Monday"),
        lambda: mark_safe("<b>"),
        lambda: [{"a": Product.objects.get(pk=1)}, ("b", None)],
        lambda: list(Product.objects.prefetch_related("tags")),
        lambda: Product.objects.select_related("category").get(pk=1),
        lambda: type("AnonymousUser", (), {"__module__": "django.contrib.auth.models"})(),
    ],
)
def test_what_can_name_a_fragment(
    value: Callable[[], Any], shop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    source = "{% cached value %}{{ n }}{% endcached %}"
    assert [render(source, value=value(), n=n) for n in (1, 2)] == ["1", "1"], caplog.text
    assert render(source, value="another", n=3) == "3"


def test_safe_strings_are_told_from_others(shop: Any) -> None:
    source = "{% cached value %}{{ value }}{% endcached %}"
    assert render(source, value="<b>") == "&lt;b&gt;"
    assert render(source, value=mark_safe("<b>")) == "<b>"


def test_request_contexts(shop: Any) -> None:
    template = Template("{% load zoocache %}{% cached n %}{{ n }}{% endcached %}")
    for _ in range(2):
        assert template.render(RequestContext(RequestFactory().get("/"), {"n": 3})) == "3"


def test_ttl(shop: Any) -> None:
    assert render("{% cached 1 ttl=60 %}x{% endcached %}") == "x"
    assert render("{% cached 1 ttl=seconds %}x{% endcached %}", seconds=5) == "x"


@pytest.mark.parametrize("wrong", ["{% cached 1 timeout=3 %}", "{% cached a= %}"])
def test_wrong_arguments(wrong: str) -> None:
    with pytest.raises(TemplateSyntaxError, match="knows ttl="):
        render(wrong + "x{% endcached %}")


def test_a_value_that_can_name_nothing(shop: Any, caplog: pytest.LogCaptureFixture) -> None:
    source = "{% cached value %}{{ n }}{% endcached %}"
    assert [render(source, value=object(), n=n) for n in (1, 2)] == ["1", "2"]
    assert "is not cached" in caplog.text


def test_fragments_within_fragments(shop: Any, queries: Queries) -> None:
    source = (
        "{% cached 'outer' %}[{% cached 'inner' %}{{ products.0.name }}{% endcached %}]"
        "{% endcached %}"
    )
    read = lambda: render(source, products=Product.objects.order_by("pk"))  # noqa: E731
    assert read() == "[product 1]"
    with queries(0):
        assert read() == "[product 1]"
    rename(Product, 1, "new")
    assert read() == "[new]"


def test_what_was_loaded_before_a_write_is_not_kept(
    shop: Any, in_a_request: None, elsewhere: Elsewhere
) -> None:
    source = "{% cached 1 %}{{ name }}{{ stores.count }}{% endcached %}"
    name = Product.objects.get(pk=1).name
    elsewhere(lambda: Store.objects.create(name="third"))
    render(source, name=name, stores=Store.objects.all())
    # Whoever comes later must see that the fragment counts from the request's start.
    assert elsewhere(lambda: render(source, name="later", stores=Store.objects.all())) == "later3"
