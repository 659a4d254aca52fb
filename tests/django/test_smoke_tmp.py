from shop.models import *
def test_a(db, queries):
    c = Category.objects.create(name="a")
    Product.objects.create(name="p", category=c)
    for n in (1, 0):
        with queries(n):
            assert [p.name for p in Product.cached.filter(active=True)] == ["p"]
    for n in (1, 0):
        with queries(n):
            assert [p.name for p in Product.cached.filter(category=c)] == ["p"]
