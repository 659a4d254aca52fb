"""What one get, one set and one get of 20 keys take, at four sizes of value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import floors
from peers import Peer
from servers import Place
from timing import Sampler, interleave, loop_of_sets, loop_over, picks, value_of

MANY = 20
Medians = dict[str, float]


def measure(
    peers: Iterable[Peer], place: Place, rounds: int, budget: float
) -> dict[str, dict[str, Medians]]:
    """Medians in ns: get by zipf(1.0), get uniform, set; at 1 KiB also get_many."""
    peers = list(peers)
    value = value_of(place.size)
    for peer in peers:
        peer.fill(value)
        for key in peer.keys()[:3]:
            assert peer.get(key) == value, peer.name
    taken = {}
    for distribution in ("zipf", "uniform"):
        chosen = picks(distribution)
        contenders = floors.floors(place, chosen, budget)
        for peer in peers:
            contenders[peer.name] = Sampler(
                loop_over(peer.get), named(peer, chosen), budget, peer.prepare
            )
        taken[f"get, {distribution}"] = interleave(contenders, rounds)
    if place.size == 1024:
        taken[f"get_many of {MANY}"] = interleave(gets_of_many(peers, budget), rounds)
    taken["set"] = interleave(
        {
            peer.name: Sampler(loop_of_sets(peer.set, value), named(peer, picks("zipf")), budget)
            for peer in peers
            if peer.set
        },
        max(3, rounds // 2),
    )
    return taken


def named(peer: Peer, numbers: Iterable[int]) -> list[Any]:
    keys = peer.keys()
    return [keys[number] for number in numbers]


def gets_of_many(peers: Iterable[Peer], budget: float) -> dict[str, Callable[[], float]]:
    """One call for 20 keys where there is one, else 20 calls."""
    contenders: dict[str, Callable[[], float]] = {}
    chosen = picks("zipf")
    for peer in peers:
        keys = named(peer, chosen)
        groups = [keys[i : i + MANY] for i in range(0, len(keys) - MANY, MANY)]
        if peer.get_many:
            contenders[peer.name] = Sampler(loop_over(peer.get_many), groups, budget, peer.prepare)
        else:
            contenders[f"{peer.name}, {MANY} gets"] = Sampler(
                loop_over(one_by_one(peer.get)), groups, budget, peer.prepare
            )
    return contenders


def one_by_one(get: Callable[[Any], Any]) -> Callable[[Sequence[Any]], Any]:
    return lambda keys: [get(key) for key in keys]
