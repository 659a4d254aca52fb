"""The judge of the demo can fail: it is given stale, wrong and fresh responses."""

import importlib
import sys
import threading
from pathlib import Path

import pytest

SITE = Path(__file__).resolve().parents[2] / "examples" / "atlas"

PARIS, LYON, NICE, ROME = 1, 2, 3, 4
HERE, THERE = 100, 200  # two workers


@pytest.fixture(scope="module")
def module():
    sys.path.insert(0, str(SITE))
    try:
        yield importlib.import_module("judge")
    finally:
        sys.path.remove(str(SITE))


@pytest.fixture
def judge(module):
    known = {PARIS: ("FR", 900), LYON: ("FR", 500), NICE: ("FR", 300), ROME: ("IT", 800)}
    return module.Judge({city: module.Known(*facts) for city, facts in known.items()})


@pytest.fixture
def page(module, judge):
    """Build a response; unless told otherwise it is of a request that was sent just now."""

    def build(*shown, worker=THERE, asked=None, **facts):
        asked = judge.tick() if asked is None else asked
        return module.Response("/page/", worker, asked, list(shown), **facts)

    return build


def write(judge, city, more=1, worker=HERE):
    with judge.writing(city, more) as sent:
        judge.answered(sent, worker)
    return sent.population


def kinds(faults):
    return [fault.kind for fault in faults]


class TestStale:
    def test_what_was_there_before_an_answered_write_is_stale(self, judge, page):
        assert write(judge, PARIS, more=50) == 950
        (fault,) = judge.examine(page((PARIS, 900)))
        assert fault.kind == "stale"
        assert judge.stale == [fault]
        assert judge.wrong == []

    def test_the_message_names_address_workers_city_and_both_values(self, judge, page):
        write(judge, PARIS, more=50)
        (fault,) = judge.examine(page((PARIS, 900)))
        for part in ("stale", "/page/", "worker 200", "worker 100", "city 1", "950", "got 900"):
            assert part in str(fault)

    def test_the_write_before_the_last_is_stale_too(self, judge, page):
        earlier = write(judge, PARIS)
        write(judge, PARIS)
        assert kinds(judge.examine(page((PARIS, earlier)))) == ["stale"]

    def test_one_old_city_among_fresh_ones_is_found(self, judge, page):
        fresh = write(judge, PARIS)
        write(judge, LYON)
        faults = judge.examine(page((PARIS, fresh), (LYON, 500), (NICE, 300)))
        assert [fault.of for fault in faults] == [f"city {LYON}"]

    def test_a_city_shown_twice_must_be_fresh_both_times(self, judge, page):
        fresh = write(judge, PARIS)
        assert kinds(judge.examine(page((PARIS, 900), (PARIS, fresh)))) == ["stale"]

    def test_a_page_read_without_the_cache_is_judged_as_well(self, judge, page):
        write(judge, PARIS)
        assert kinds(judge.examine(page((PARIS, 900), cached=False))) == ["stale"]

    def test_the_worker_that_wrote_is_judged_as_well(self, judge, page):
        write(judge, PARIS)
        assert kinds(judge.examine(page((PARIS, 900), worker=HERE))) == ["stale"]


class TestFresh:
    def test_the_first_population_is_fresh_until_something_is_written(self, judge, page):
        assert judge.examine(page((PARIS, 900), (ROME, 800))) == []
        assert judge.judged == 2

    def test_what_was_written_is_fresh(self, judge, page):
        assert judge.examine(page((PARIS, write(judge, PARIS)))) == []

    def test_a_request_sent_before_the_answer_may_show_either(self, judge, page):
        with judge.writing(PARIS) as sent:
            asked = judge.tick()
            judge.answered(sent, HERE)
        assert judge.examine(page((PARIS, 900), asked=asked)) == []
        assert judge.examine(page((PARIS, sent.population), asked=asked)) == []

    def test_a_write_that_was_never_answered_may_show_or_not(self, judge, page):
        with judge.writing(PARIS) as lost:
            pass
        assert judge.examine(page((PARIS, 900))) == []
        assert judge.examine(page((PARIS, lost.population))) == []

    def test_after_a_lost_write_the_next_goes_above_it_and_must_show(self, judge, page):
        with judge.writing(PARIS) as lost:
            pass
        kept = write(judge, PARIS)
        assert kept > lost.population
        assert kinds(judge.examine(page((PARIS, lost.population)))) == ["stale"]


class TestWrong:
    @pytest.mark.parametrize("population", [899, 901, 0])
    def test_a_population_that_nobody_wrote(self, judge, page, population):
        assert kinds(judge.examine(page((PARIS, population)))) == ["wrong"]
        assert len(judge.wrong) == 1
        assert judge.stale == []

    def test_the_population_of_another_city(self, judge, page):
        assert kinds(judge.examine(page((PARIS, write(judge, ROME))))) == ["wrong"]

    def test_a_city_that_nobody_knows(self, judge, page):
        assert kinds(judge.examine(page((99, 900)))) == ["wrong"]

    def test_the_page_of_another_city(self, judge, page):
        faults = judge.examine(page((ROME, 800), subject=PARIS))
        assert kinds(faults) == ["wrong"]

    def test_a_page_without_any_city(self, judge, page):
        assert kinds(judge.examine(page(subject=PARIS))) == ["wrong"]


class TestListOfTheLargest:
    def test_a_city_that_grew_must_have_come_onto_the_list(self, judge, page):
        write(judge, NICE, more=300)  # 600, more than Lyon
        (fault,) = judge.examine(page((PARIS, 900), (LYON, 500), largest_of="FR"))
        assert (fault.kind, fault.of) == ("stale", f"city {NICE}")

    def test_a_city_that_grew_too_little_may_be_missing(self, judge, page):
        write(judge, NICE, more=200)  # 500, as many as Lyon: either may come first
        assert judge.examine(page((PARIS, 900), (LYON, 500), largest_of="FR")) == []

    def test_a_city_of_another_country_may_be_missing(self, judge, page):
        write(judge, ROME)
        assert judge.examine(page((PARIS, 900), (LYON, 500), largest_of="FR")) == []

    def test_a_request_sent_before_the_answer_may_miss_the_city(self, judge, page):
        asked = judge.tick()
        write(judge, NICE, more=300)
        response = page((PARIS, 900), (LYON, 500), largest_of="FR", asked=asked)
        assert judge.examine(response) == []

    def test_the_largest_of_the_world(self, module, judge, page):
        assert judge.examine(page((PARIS, 900), (ROME, 800), largest_of=module.WORLD)) == []
        write(judge, LYON, more=500)
        (fault,) = judge.examine(page((PARIS, 900), (ROME, 800), largest_of=module.WORLD))
        assert (fault.kind, fault.of) == ("stale", f"city {LYON}")


class TestSums:
    """Paris, Lyon and Nice are 1,700 people."""

    def test_the_first_sum_and_one_with_all_that_was_written(self, judge, page):
        assert judge.examine(page(sums=[("FR", 1700)])) == []
        write(judge, PARIS, more=50)
        write(judge, NICE, more=5)
        write(judge, ROME)
        assert judge.examine(page(sums=[("FR", 1755)])) == []
        assert judge.judged == 2

    def test_one_that_lacks_an_answered_write_is_stale(self, judge, page):
        write(judge, PARIS, more=50)
        write(judge, NICE, more=5)
        for lacking in (1700, 1705, 1750, 1754):
            (fault,) = judge.examine(page(sums=[("FR", lacking)]))
            assert (fault.kind, fault.of) == ("stale", "sum of FR")
        assert len(judge.stale) == 4

    def test_a_write_on_its_way_may_be_in_it_or_not(self, judge, page):
        asked = judge.tick()
        write(judge, PARIS, more=50)
        with judge.writing(NICE, more=5):
            for either in (1700, 1705, 1750, 1755):
                assert judge.examine(page(sums=[("FR", either)], asked=asked)) == []

    def test_one_above_all_that_was_sent_is_wrong(self, judge, page):
        write(judge, PARIS, more=50)
        assert kinds(judge.examine(page(sums=[("FR", 1751)]))) == ["wrong"]


class TestSeenElsewhere:
    def test_another_worker_turns_from_the_old_to_the_new(self, judge, page):
        judge.examine(page((PARIS, 900)))
        fresh = write(judge, PARIS)
        judge.examine(page((PARIS, fresh)))
        judge.examine(page((PARIS, fresh)))
        assert judge.seen_elsewhere == 1

    def test_each_worker_counts(self, judge, page):
        for worker in (200, 300):
            judge.examine(page((PARIS, 900), worker=worker))
        fresh = write(judge, PARIS)
        for worker in (200, 300):
            judge.examine(page((PARIS, fresh), worker=worker))
        assert judge.seen_elsewhere == 2

    def test_not_the_writer_itself(self, judge, page):
        judge.examine(page((PARIS, 900), worker=HERE))
        judge.examine(page((PARIS, write(judge, PARIS)), worker=HERE))
        assert judge.seen_elsewhere == 0

    def test_not_a_worker_that_never_showed_the_old(self, judge, page):
        judge.examine(page((PARIS, write(judge, PARIS))))
        assert judge.seen_elsewhere == 0

    def test_not_a_read_without_the_cache(self, judge, page):
        judge.examine(page((PARIS, 900)))
        judge.examine(page((PARIS, write(judge, PARIS)), cached=False))
        assert judge.seen_elsewhere == 0

    def test_not_a_population_that_nobody_wrote(self, judge, page):
        judge.examine(page((PARIS, 900)))
        judge.examine(page((PARIS, 12345)))
        assert judge.seen_elsewhere == 0


class TestWriting:
    def test_writers_of_one_city_take_turns_and_only_go_up(self, judge):
        populations = []

        def work():
            for _ in range(200):
                with judge.writing(PARIS) as sent:
                    populations.append(sent.population)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert populations == list(range(901, 901 + 800))

    def test_a_writer_does_not_wait_for_another_city(self, judge):
        with judge.writing(PARIS), judge.writing(ROME) as sent:
            assert sent.population == 801

    def test_a_failed_request_gives_the_turn_back(self, judge):
        with pytest.raises(OSError, match="gone"), judge.writing(PARIS):
            raise OSError("gone")
        assert write(judge, PARIS) == 902


class TestShownIn:
    def test_json_of_one_city(self, module):
        body = b'{"id": 7, "name": "X", "population": 12}'
        assert module.shown_in("application/json", body) == [(7, 12)]

    def test_json_list(self, module):
        body = b'{"results": [{"id": 7, "population": 12}, {"id": 8, "population": 9}]}'
        assert module.shown_in("application/json", body) == [(7, 12), (8, 9)]

    def test_html_keeps_what_occurs_twice(self, module):
        row = b'<tr data-city="7" data-population="%d"><td>7</td></tr>'
        body = row % 12 + b"<p>" + row % 13
        assert module.shown_in("text/html", body) == [(7, 12), (7, 13)]

    def test_html_without_cities(self, module):
        assert module.shown_in("text/html", b"<p>data-city</p>") == []


class TestSumsIn:
    def test_json(self, module):
        body = b'{"country": {"code": "FR"}, "people": 12, "results": []}'
        assert module.sums_in("application/json", body) == [("FR", 12)]
        assert module.sums_in("application/json", b'{"country": {"code": "FR"}, "id": 1}') == []

    def test_html(self, module):
        assert module.sums_in("text/html", b'<p data-country="FR" data-people="12">') == [
            ("FR", 12)
        ]
        assert module.sums_in("text/html", b"<p>data-country</p>") == []
