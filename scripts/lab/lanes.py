"""Jobs side by side, each in a process of its own."""

import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from errors import LabError

# Forked, so that a job has what its closure has, and the lab's lock.
_FORK = multiprocessing.get_context("fork")


class JobFailed(Exception):
    """A job has failed and has said why."""


@dataclass(frozen=True)
class Job:
    """What is to be done as soon as the jobs that it `needs`, where there are such, are done."""

    name: str
    run: Callable[[], None]
    needs: tuple[str, ...] = ()


def run(jobs: Sequence[Job], lanes: int) -> dict[str, float]:
    """Does all jobs, so many at a time and the first ones first; returns the seconds that each took.

    JobFailed with the first that fails; the others are ended then, as by SIGTERM.
    """
    waiting = list(jobs)
    running: list[tuple[Job, multiprocessing.context.ForkProcess, float]] = []
    seconds: dict[str, float] = {}
    try:
        while waiting or running:
            unfinished = {job.name for job in waiting} | {job.name for job, _, _ in running}
            ready = [job for job in waiting if unfinished.isdisjoint(job.needs)]
            for job in ready[: lanes - len(running)]:
                process = _FORK.Process(target=_child, args=(job,), name=job.name)
                process.start()
                running.append((job, process, time.monotonic()))
                waiting.remove(job)
            multiprocessing.connection.wait([process.sentinel for _, process, _ in running])
            for entry in [entry for entry in running if not entry[1].is_alive()]:
                running.remove(entry)
                job, process, started = entry
                if process.exitcode:
                    raise JobFailed(job.name)
                seconds[job.name] = time.monotonic() - started
    finally:
        for _, process, _ in running:
            process.terminate()
        for _, process, _ in running:
            process.join()
    return seconds


def _child(job: Job) -> None:
    try:
        job.run()
    except KeyboardInterrupt:
        sys.exit(130)
    except LabError as error:
        # In one piece: others print, too.
        lines = [*(f"    | {line}" for line in error.console), f"lab: failed: {error}"]
        print("\n".join(lines), file=sys.stderr, flush=True)
        sys.exit(1)
