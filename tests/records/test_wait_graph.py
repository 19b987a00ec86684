"""Who waits for whom: chains and circles of tasks, told from records alone."""

from __future__ import annotations

from gdb_kdump.records.locks import Held, Lock, Waiter, WaitGraph


def lock(addr: int, owner: int, *tasks: int, held: Held = Held.BY_OWNER) -> Lock:
    return Lock(addr, "mutex", "", owner, held, tuple(Waiter(task, task + 8) for task in tasks))


def steps(found: list[tuple[int, Lock]]) -> list[tuple[int, int]]:
    return [(task, waits_for.addr) for task, waits_for in found]


def test_a_chain_ends_with_who_waits_for_nothing() -> None:
    graph = WaitGraph([lock(1, 20, 10, 11), lock(2, 30, 20)])
    assert steps(list(graph.chain(10))) == [(10, 1), (20, 2)]
    assert list(graph.chain(30)) == [] and graph.cycles() == []
    assert graph.find_lock(11) is graph.locks[0] and graph.find_lock(30) is None


def test_a_circle_is_told_once_and_without_those_who_wait_outside() -> None:
    graph = WaitGraph([lock(4, 10, 40), lock(1, 20, 10), lock(2, 30, 20), lock(3, 10, 30)])
    assert [steps(cycle) for cycle in graph.cycles()] == [[(10, 1), (20, 2), (30, 3)]]
    assert steps(list(graph.chain(40))) == [(40, 4), (10, 1), (20, 2), (30, 3)]


def test_two_circles_and_a_task_that_waits_for_itself() -> None:
    graph = WaitGraph([lock(1, 20, 10), lock(2, 10, 20), lock(3, 50, 50)])
    assert [steps(cycle) for cycle in graph.cycles()] == [[(10, 1), (20, 2)], [(50, 3)]]


def test_readers_end_a_chain() -> None:
    graph = WaitGraph([lock(1, 20, 10), lock(2, 10, 20, held=Held.BY_READERS), lock(3, 0, 30, held=Held.UNKNOWN)])
    assert steps(list(graph.chain(10))) == [(10, 1), (20, 2)]
    assert graph.cycles() == [] and steps(list(graph.chain(30))) == [(30, 3)]
