"""Everything that the documentation shows runs, in a new project (page_project/run_page.py).

So does the page of the promises. Behind each page stands what must be true of what it defines.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fresh import run_python

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

TRUE_OF = {
    ROOT / "README.md": """
        from zoocache import stats
        before = stats()["hits"]
        assert profile(42) == profile(42) == {"id": 42}
        assert stats()["hits"] == before + 1
    """,
    ROOT / "docs/core.md": """
        assert cache.get("user:42:name") is None
        assert cache.get("row:7") == b"row 7"
        cache.invalidate("row:7")
        assert cache.get("row:7") is None
    """,
    ROOT / "docs/cache-backend.md": """
        from django.conf import settings
        from django.core.cache import caches
        from zoocache.shm import Segment
        caches["sessions"].set("key", 1)
        segment = Segment(settings.CACHES["sessions"]["LOCATION"])
        assert abs(segment.size - 16 * 2**20) < 65536
        assert settings.SESSION_CACHE_ALIAS == "sessions"
    """,
    ROOT / "docs/django.md": """
        from django.test import RequestFactory
        for call in (
            lambda: list(User.objects.all()),           # by settings
            lambda: list(Permission.objects.all()),
            lambda: price_range(42),
            lambda: front_page(RequestFactory().get("/")),
            lambda: CardSerializer(product).data,
        ):
            call()
            assert count_queries(call) == 0, call.__code__.co_firstlineno
        assert count_queries(lambda: list(Group.objects.all())) == 1
        assert price_range(42) == {"price__min": 42, "price__max": 42}
        assert b"Product 42: " in front_page(RequestFactory().get("/")).content
        assert CardSerializer(product).data == {"title": product.name}
        assert total == len(products) == 3
        product.name = "written"
        product.save()
        assert b"written: " in front_page(RequestFactory().get("/")).content
    """,
    HERE / "promised_page.md": """
        from django.test import RequestFactory
        def seen(view):
            def call():
                shown = view.as_view()(RequestFactory().get("/"), pk=42).context_data
                return [row.pk for row in shown.get("object_list") or [shown["object"]]]
            return call
        for view in (ProductListView, ProductDetailView):
            call = seen(view)
            assert call()[-1] == 42
            assert count_queries(call) == 0
        api = lambda: ProductList.as_view()(RequestFactory().get("/")).data
        assert api()[-1]["name"] == "Product 42"
        assert count_queries(api) == 0
        assert serializer.data == {"id": 42, "name": "Product 42", "price": "42.00"}
        again = ProductSerializer(Product.objects.get(pk=42), cached=True)
        assert count_queries(lambda: again.data) == 0
        product.name = "written"
        product.save()
        assert api()[-1]["name"] == "written"
    """,
}


@pytest.mark.parametrize("page", TRUE_OF, ids=lambda page: page.stem)
def test_what_a_page_shows_runs(page: Path, tmp_path: Path, short_name: str) -> None:
    shutil.copytree(HERE / "page_project", tmp_path, dirs_exist_ok=True)
    more = "\n".join(line[8:] for line in TRUE_OF[page].splitlines())
    (tmp_path / page.name).write_text(f"{page.read_text()}\n```python\n{more}\n```\n")
    ran = run_python(
        tmp_path, "run_page.py", page.name, ZOOCACHE_NAME=short_name, ZOOCACHE_SIZE="2MiB"
    )
    assert ran.count(page.name) == page.read_text().count("```") // 2 + 1, ran
