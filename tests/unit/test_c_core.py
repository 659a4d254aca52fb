"""Builds the tests of the C core (tests/c) and runs them: plain, under ASan and UBSan, under TSan.

The mutants prove that these tests can fail: each takes one rule out of the
core, and the suites named with it must notice.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests" / "c"
CSRC = ROOT / "csrc"

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("make")),
    reason="gcc and make are needed to build the tests of the C core",
)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The workers of one run share their builds."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def build_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    path = shared / "c-core"
    path.mkdir(exist_ok=True)
    return path


def make(build_dir: Path, target: str, **variables: str) -> None:
    command = ["make", "-C", str(TESTS), f"OUT={build_dir}", target]
    command += [f"{name}={value}" for name, value in variables.items()]
    with locked(build_dir / f"{Path(target).name}.lock"):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def run(
    binary: Path, segment_name: str, *suites: str, limit: float = 600
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(binary), *suites],
        env={**os.environ, "ZOO_TEST_SEGMENT": segment_name},
        capture_output=True,
        text=True,
        timeout=limit,
    )


@pytest.mark.parametrize("kind", ["plain", "asan", "tsan"])
def test_suites(kind, build_dir, segment_name, evidence):
    binary = build_dir / f"test_core.{kind}"
    make(build_dir, str(binary))
    if kind == "tsan" and (why := run(binary, segment_name, "clock-ticks").stderr):
        pytest.skip(f"ThreadSanitizer does not start on this kernel: {why.splitlines()[0]}")
    done = run(binary, segment_name, *(["storm-threads"] if kind == "tsan" else []))
    assert done.returncode == 0, done.stdout + done.stderr
    for figures, suite in re.findall(r"figures (.*)\nok (\S+)", done.stdout):
        numbers = {name: int(n) for name, n in (pair.split("=") for pair in figures.split())}
        evidence(f"C core, {kind}, {suite}", **numbers)
    schedules = sum(map(int, re.findall(r"(\d+) schedules", done.stdout)))
    evidence(f"C core, {kind}", suites=done.stdout.count("\nok ") + 1, schedules=schedules)


def test_compiles_without_warnings(build_dir):
    make(build_dir, "lint")


def test_every_fault_point_is_known(build_dir):
    """A point that is renamed or new must be killed at, too."""
    binary = build_dir / "test_core.plain"
    make(build_dir, str(binary))
    known = subprocess.run([str(binary), "--points"], capture_output=True, text=True).stdout
    sources = "".join(path.read_text() for path in CSRC.glob("*.c"))
    assert sorted(known.split()) == sorted(set(re.findall(r'ZOO_FAULT\("([^"]+)"\)', sources)))
    tests = "".join(path.read_text() for path in TESTS.glob("test_*.c"))
    assert [point for point in known.split() if f'"{point}"' not in tests] == []


MUTANTS = {
    "timed-hit-taken-for-an-old-one": (
        "zoo_cache.c", "hit->age &= ~ZOO_AGE_TIMED;", "", "tally-gets"),
    "tick-not-strict": (
        "zoo_hlc.c", "now > last ? now : last + 1", "now > last ? now : last", "clock-ticks"),
    "merge-without-bound": (
        "zoo_hlc.c", "remote > zoo_time(seg) + ZOO_HLC_MAX_LEAD", "0", "clock-merges"),
    "fold-without-floor": (
        "zoo_tag.c", "zoo_max_release(set, folded);", "", "tags-never-forget"),
    "floor-not-read": (
        "zoo_tag.c", "(zoo_load_acquire(set) & ZOO_CLOCK_MASK) > stamp", "0", "tags-never-forget"),
    "tie-is-stale": (
        "zoo_layout.h", "zoo_hlc_read(seg) <= stamp || zoo_tag_unraised(seg, stamp,",
        "zoo_hlc_read(seg) < stamp || zoo_tag_unraised(seg, stamp - 1,", "stamps"),
    "clear-not-looked-at": (
        "zoo_tag.c", "if (zoo_load_acquire(&seg->hdr->root) > stamp)", "if (0)", "prefixes"),
    "checksum-without-position": (
        "zoo_log.h", "return pos.bytes | log;", "return (pos.bytes & 0) | log;", "own-position"),
    "checksum-without-log": (
        "zoo_log.h", "return pos.bytes | log;", "return pos.bytes | (log & 0);", "sum-moves"),
    "head-checksum-not-checked": (
        "zoo_log.c", "!lapped && sum == hit->rec->sum && copied", "!lapped && copied",
        "scribbled sum-flips"),
    "value-checksum-not-checked": (
        "zoo_log.c", "return (sum ^ hit->rec->sum) == hit->rec->whole_sum ? ZOO_OK : ZOO_CORRUPT;",
        "return (void)sum, ZOO_OK;", "scribbled sum-flips"),
    "lap-not-checked": (
        "zoo_log.c", "if (!zoo_log_holds(log, hit->pos, limit))\n        return ZOO_LAPPED;",
        "", "get-order"),
    "limit-not-raised": (
        "zoo_log.c", "if (zoo_load_relaxed(to->limit) < end)", "if (0)", "log-laps"),
    "straight-line-without-a-lap-check": (
        "zoo_hit.c", "LIKELY(zoo_log_holds(log, at->pos, limit)) &&", "", "get-order"),
    "straight-line-without-a-checksum": (
        "zoo_hit.c", "LIKELY((zoo_sum_of_block(sum) ^ at->rec->sum) == at->rec->whole_sum)",
        "true", "scribbled sum-flips"),
    "straight-line-without-a-head-checksum": (
        "zoo_hit.c", "LIKELY(zoo_sum_of_block(at->chain) == at->rec->sum)", "true", "sum-flips"),
    "straight-line-of-any-key": (
        "zoo_hit.c", "return LIKELY(same_bytes(zoo_rec_key(at->rec), key, key_len));",
        "return true;", "twins"),
    "straight-line-of-what-is-stale": (
        "zoo_hit.c", "if (UNLIKELY(!quiet) ||", "if (UNLIKELY(!quiet && 0) ||", "prefixes"),
    "straight-line-of-what-is-announced": (
        "zoo_hit.c", "UNLIKELY((lanes | until) != 0)", "0", "intent-settled"),
    "straight-line-of-what-is-expired": (
        "zoo_hit.c", "zoo_rec_expiry(rec) - 1 >= zoo_hlc_now_ms(seg)", "1", "expiry"),
    "straight-line-blind-to-the-expiry": (
        "zoo_hit.c", "LIKELY((rec->stamp & ZOO_STAMP_EXPIRES) == 0)", "1", "expiry"),
    "straight-line-with-an-early-look": (
        "zoo_hit.c", 'ZOO_FAULT("get:copied");\n    const struct zoo_hdr *hdr = seg->hdr;',
        "struct zoo_hdr early = *seg->hdr;\n"
        '    ZOO_FAULT("get:copied");\n    const struct zoo_hdr *hdr = &early;', "get-order"),
    "stalled-writer-does-not-look": (
        "zoo_log.c", "if (!zoo_log_intact(seg, log, pos))\n        return false;", "",
        "race-stalled-writer"),
    "dead-word-ignored": (
        "zoo_index.c", "i += zoo_cas_seq_cst(bucket + i, word, 0);\n                break;",
        "i++;\n                break;", "race-replace-lapped"),
    "ghosts-forgotten": (
        "zoo_index.c", "return behind > log->size && behind", "return 0 && behind", "ghosts"),
    "ghost-replaced-in-one-step": (
        "zoo_index.c", "unsigned own = choose_victim(seg, words, turn);",
        "unsigned own = choose_victim(seg, words, turn);\n"
        "        for (unsigned g = 0; g < ZOO_WAYS; g++)\n"
        "            if (zoo_index_may_hold(words[g], key_hash) &&\n"
        "                is_ghost(seg, words[g], zoo_log_behind(seg, words[g])) &&\n"
        "                zoo_cas_seq_cst(bucket + g, words[g], final))\n"
        "                return ZOO_OK;", "race-ghost"),
    "scan-skipped": (
        "zoo_index.c",
        "if (look_around(seg, bucket, own, tentative, key_hash, rec, &withdrew) == STEP_RESTART)",
        "if (withdrew && look_around(seg, bucket, own, tentative, key_hash, rec, &withdrew))",
        "schedules-of-more"),
    "dead-inserter-respected": (
        "zoo_index.c", "if (i > own || *withdrew)", "if (i > own)", "dead-inserters"),
    "lower-inserter-ignored": (
        "zoo_index.c",
        "zoo_cas_seq_cst(bucket + own, tentative, 0);\n            *withdrew = true;",
        "i++;\n            continue;", "schedules-of-more"),
    "older-fill-wins": (
        "zoo_index.c", "if (mode == ZOO_FILL && is_newer(", "if (0 && is_newer(",
        "race-older-fill"),
    "fill-wins-a-tie": (
        "zoo_index.c", "if (clock != fill || !(found->stamp & ZOO_STAMP_EXPLICIT))", "if (1)",
        "set-beats-fill"),
    "expired-set-wins-a-tie": (
        "zoo_index.c", "return expiry == 0 || expiry > zoo_hlc_now_ms(seg);",
        "return true;", "set-beats-fill"),
    "add-ignores-what-is-there": (
        "zoo_index.c", "return state == ZOO_OK || state == ZOO_PENDING;", "return state < 0;",
        "add-replace"),
    "add-ignores-what-is-announced": (
        "zoo_index.c", "return state == ZOO_OK || state == ZOO_PENDING;",
        "return state == ZOO_OK;", "modify-announced"),
    "absent-over-a-dead-word": (
        "zoo_modify.c", "outcome == ZOO_LAPPED && !zoo_index_bury(", "0 && !zoo_index_bury(",
        "overtaken-absent"),
    "overtaken-add-says-it-stored": (
        "zoo_index.c", "return mode == ZOO_ADD && !zoo_tag_fresh(",
        "return 0 && mode == ZOO_ADD && !zoo_tag_fresh(", "overtaken-add"),
    "delete-takes-what-came-later": (
        "zoo_index.c", "(found == MATCH_YES && stamp >= clock)", "(stamp < clock && 0)",
        "overtaken-delete"),
    "replace-ignores-absence": (
        "zoo_cache.c", "if (mode == ZOO_REPLACE)\n", "if (0)\n", "add-replace"),
    "replace-stamps-at-the-swap": (
        "zoo_modify.c", "bool swapped = swap(seg, &hit, head, value, &space);",
        "head->stamp = zoo_hlc_read(seg) | ZOO_STAMP_EXPLICIT;\n"
        "        bool swapped = swap(seg, &hit, head, value, &space);", "overtaken-replace"),
    "change-with-a-new-stamp": (
        "zoo_modify.c", 'ZOO_FAULT("modify:reserved");',
        'ZOO_FAULT("modify:reserved"); head->stamp = zoo_hlc_read(seg) | ZOO_STAMP_EXPLICIT;',
        "overtaken-drop"),
    "change-loses-its-tags": (
        "zoo_modify.c", "head->value_len = (uint32_t)len;",
        "head->value_len = (uint32_t)len; head->n_words = 0;", "touch"),
    "change-of-what-is-stale": (
        "zoo_modify.c", "if (zoo_entry_state(seg, hit->rec, key_hash) == ZOO_OK)", "if (1)",
        "swap"),
    "promotion-stamps-now": (
        "zoo_cache.c", 'ZOO_FAULT("promote:reserved");',
        'ZOO_FAULT("promote:reserved"); hit->rec->stamp = zoo_hlc_read(seg);',
        "overtaken-drop"),
    "promotion-of-unverified-bytes": (
        "zoo_cache.c", "zoo_log_write_unpublished(seg, ZOO_LOG_MAIN, pos, hit->rec, value)",
        "zoo_log_write_unpublished(seg, ZOO_LOG_MAIN, pos, hit->rec, "
        "(const char *)(hit->from + zoo_rec_head(hit->rec) / 8))", "promote-verified"),
    "tags-before-copy": (
        "zoo_cache.c", "int outcome = zoo_log_value(seg, hit, value);",
        "struct zoo_rec early = *hit->rec; uint64_t then = zoo_hlc_read(seg);\n"
        "    int outcome = zoo_log_value(seg, hit, value); (void)early;\n"
        '    ZOO_FAULT("get:copied"); hit->rec->stamp += zoo_hlc_read(seg) - then;', "get-order"),
    "pending-not-looked-at": (
        "zoo_cache.c", "zoo_intent_any(seg), 0)", "zoo_intent_any(seg) && 0, 0)",
        "modify-announced"),
    "delete-without-tag": (
        "zoo_cache.c", "zoo_drop(seg, &tag, 1, &name, cause);", "(void)tag;",
        "race-overtaken-fill"),
    "failed-set-keeps-old": (
        "zoo_cache.c", "discard(seg, key_hash, key, key_len, ZOO_BY_FAILED_SET);", "(void)0;",
        "failed-set"),
    "bump-without-tick": (
        "zoo_cache.c", 'clock = zoo_hlc_tick_at(seg, now);\n    ZOO_FAULT("bump:ticked");',
        'clock = zoo_hlc_read(seg);\n    ZOO_FAULT("bump:ticked");', "schedules-stale"),
    "stamp-at-store": (
        "zoo_cache.c", "head->stamp |= is_fill ? stamp :",
        "head->stamp |= is_fill ? zoo_hlc_read(seg) :", "schedules-stale"),
    "stored-without-its-flag": (
        "zoo_cache.c", "head->stamp |= is_fill ? stamp :", "head->stamp = is_fill ? stamp :",
        "expiry-neighbours"),
    "stored-as-long-as-may-be": (
        "zoo_cache.c", "zoo_rec_most(&rec) >", "zoo_rec_bytes(&rec) >", "expiry-longest"),
    "changed-to-as-long-as-may-be": (
        "zoo_modify.c", "zoo_rec_most(head) >", "zoo_rec_bytes(head) >", "expiry-longest"),
    "promotion-without-its-flag": (
        "zoo_cache.c", 'ZOO_FAULT("promote:reserved");',
        'ZOO_FAULT("promote:reserved"); hit->rec->stamp &= ~ZOO_STAMP_EXPIRES;',
        "expiry-neighbours"),
    "touch-leaves-the-flag": (
        "zoo_layout.h", "rec->stamp &= ~ZOO_STAMP_EXPIRES;", "", "expiry-touch"),
    "expiry-taken-for-a-tag": (
        "zoo_layout.h", "return (uint64_t)rec->n_words - zoo_rec_expires(rec);",
        "return rec->n_words;", "expiry-neighbours"),
    "expiry-without-its-word": (
        "zoo_layout.h", "&& rec->n_words > 0;", ";", "expiry-no-word"),
    "expiry-is-room-for-a-tag": (
        "zoo_log.c", "zoo_rec_n_deps(hit->rec) <= ZOO_MAX_DEPS", "1", "expiry-forged-tags"),
    "flag-makes-a-fill-newer": (
        "zoo_index.c", "is_newer(seg, found, rec->stamp & ZOO_CLOCK_MASK)",
        "is_newer(seg, found, rec->stamp)", "expiry-fill"),
    "half-made-accepted": (
        "zoo_segment.c", "zoo_store_release(&hdr->state, ZOO_STATE_READY);", "", "values"),
    "lock-not-taken": (
        "zoo_name.c", "if (flock(fd, LOCK_EX | LOCK_NB) == 0)", "if (1)", "creator-stops"),
    "link-not-compared": (
        "zoo_name.c", "if (!zoo_name_leads_to(object, fd))", "if (0)", "name-removed"),
    "old-stamp-accepted": (
        "zoo_segment.c", "zoo_store_relaxed(&hdr->root, clock);", "", "retired-stamps"),
    "half-retired-accepted": (
        "zoo_segment.c", "if (*state == ZOO_STATE_READY && root == ZOO_CLOCK_MASK)", "if (0)",
        "replacer-dies"),
    "half-retired-not-noticed": (
        "zoo_retire.c", "zoo_load_acquire(&seg->hdr->root) == ZOO_CLOCK_MASK || is_nameless(seg)",
        "is_nameless(seg)", "half-retired"),
    "lost-name-not-noticed": (
        "zoo_retire.c", "zoo_load_acquire(&seg->hdr->root) == ZOO_CLOCK_MASK || is_nameless(seg)",
        "is_nameless(seg) && 0", "lost-name"),
    "retire-without-root": (
        "zoo_retire.c", "zoo_max_release(words->root, ZOO_CLOCK_MASK);", "", "retired-no-hits"),
    "retire-without-clock": (
        "zoo_retire.c", "} while (!zoo_cas_seq_cst(words->clock, last, ZOO_CLOCK_MASK));",
        "} while (0);", "retired-no-hits"),
    "successor-starts-at-its-own-time": (
        "zoo_retire.c", "(clock > now ? clock : now) + 1", "now", "retired-stamps"),
    "successor-starts-at-the-old-clock": (
        "zoo_retire.c", "(clock > now ? clock : now) + 1", "(clock > now ? clock : now)",
        "retired-stamps"),
    "successor-does-not-wait": (
        "zoo_retire.c", "if (zoo_load_acquire(words->lanes) != 0) { /* E16 */", "if (0) {",
        "resize-announced"),
    "successor-waits-too-short": (
        "zoo_retire.c", "(longest > QUARANTINE_MS ? longest : QUARANTINE_MS)", "QUARANTINE_MS",
        "resize-quarantine"),
    "window-ends-without-a-clear": (
        "zoo_intent.c", "zoo_tag_raise_root(seg, clock);", "", "resize-announced"),
    "resize-displaces": (
        "zoo_retire.c",
        "if (!zoo_name_leads_to(object, old_fd) || !zoo_name_leads_to(next, fd))", "if (0)",
        "not-displaced"),
    "drop-trusts-an-old-look": (
        "zoo_retire.c", "looked >= ZOO_LOOK_NS)", "looked >= 1000 * ZOO_LOOK_NS)",
        "lost-name-told"),
    "made-at-once": (
        "zoo_name.c", "zoo_retire_outwait(); /* invariant 3 */", "", "not-made-at-once"),
    "counting-does-not-look": (
        "zoo_modify.c", "zoo_retire_watch(seg);", "", "counter-notices"),
    "foreign-clear-without-root": (
        "zoo_retire.c", "zoo_max_release(words.root, last == ZOO_CLOCK_MASK ? last : last + 1);",
        "", "newer-layout"),
    "gaps-between-samples-equal": (
        "zoo_look.c", "LEAST_GAP + zoo_mix(n) % LEAST_GAP", "2 * LEAST_GAP - 1", "look-patterns"),
    "samples-without-a-number": (
        "zoo_look.c", "zoo_store_relaxed(sample + 1, n);", "", "look-samples"),
    "copy-counter-after-its-look": (
        "zoo_local.c", "copy->seen = seen;",
        "copy->seen = zoo_load_acquire(&seg->hdr->events), (void)seen;", "local-ends"),
    "copy-quiet-past-its-expiry": (
        "zoo_layout.h", "&& copy->expiry == 0", "", "local-expiry"),
    "copy-not-looked-at": (
        "zoo_local.c", "if (state == ZOO_OK)", "if (1)", "local-ends"),
    "invalidation-without-an-event": (
        "zoo_tag.c", "zoo_add_seq_cst(&seg->hdr->events, 1);", "", "local-ends"),
    "event-before-the-words": (
        "zoo_cache.c",
        "for (size_t i = 0; i < n; i++) {\n        zoo_tag_raise(seg, hashes[i], clock);\n"
        "        ZOO_FAULT(\"bump:raised\");\n    }\n    zoo_tag_announce_event(seg);",
        "zoo_tag_announce_event(seg);\n    for (size_t i = 0; i < n; i++) {\n"
        "        ZOO_FAULT(\"bump:raised\");\n        zoo_tag_raise(seg, hashes[i], clock);\n    }",
        "local-ends"),
    "retired-without-an-event": (
        "zoo_retire.c", "zoo_add_seq_cst(words->events, 1);", "", "local-ends"),
    "successor-left-by-unlink": (
        "zoo_retire.c", "shm_unlink(next);\n        zoo_owner_unlink(object);",
        "zoo_owner_unlink(object);", "successor-left"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name, build_dir, tmp_path, segment_name):
    file, rule, without, suites = MUTANTS[name]
    make(build_dir, str(build_dir / "mutant" / "test_core"))
    shutil.copytree(build_dir / "mutant", tmp_path / "mutant")  # with the times: make goes by them
    shutil.copytree(CSRC, tmp_path / "csrc")
    source = (tmp_path / "csrc" / file).read_text()
    assert source.count(rule) == 1, "the source has changed: adapt this mutant"
    (tmp_path / "csrc" / file).write_text(source.replace(rule, without))
    binary = tmp_path / "mutant" / "test_core"
    make(tmp_path, str(binary), CSRC=str(tmp_path / "csrc"))
    done = run(binary, segment_name, *suites.split(), limit=60)
    assert done.returncode != 0, f"nobody noticed:\n{done.stdout}"
