"""Several cores: threads that share out the work of a kernel, and a BLAS that leaves it to them.

NumPy (and a compiled kernel) lets go of Python's lock while it computes on a large array, so plain
threads do. One pool drives everything: a BLAS with threads of its own keeps them waiting actively
after each product, where they take the cores from ours (a product and a kernel of 4 ms on two
threads took 11 ms in turn, 6 with the BLAS held to one thread). So while our threads work, and in
products that we split among them, the BLAS has one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np

from minigrad.backends import capture


class Worker(threading.Thread):
    """A thread that waits for one job after another.

    ``begun`` and ``ended`` count the jobs. Both sides look at the counts for a while before they
    sleep, where there is a compiled ``spin`` to look without Python's lock: a sleeping thread takes
    50 us and more to wake, one that looks a few.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(name="minigrad", daemon=True)
        self.pool = pool
        self.counts = np.zeros(32, np.int64)  # far apart: each core has its own line of the cache
        self.begun, self.ended = self.counts[:1], self.counts[16:17]
        self.scratch = np.zeros((2, 16), np.int64)  # for spinning here, and for spinning there
        self.wake, self.woken = threading.Lock(), threading.Lock()
        self.wake.acquire()
        self.woken.acquire()
        self.asleep = self.awaited = False
        self.job: Callable[[], Any] | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        n = 0
        while True:
            n += 1
            if not self.pool.spin(self.begun, n, _LOOKS, _PAUSE, self.scratch[0]):
                self.asleep = True
                while self.begun[0] < n:
                    self.wake.acquire()
                self.asleep = False
            try:
                if self.job is not None:
                    self.job()
            except BaseException as error:
                self.error = error
            self.job = None
            self.ended[0] = n
            if self.awaited:
                _release(self.woken)

    def begin(self, job: Callable[[], Any]) -> None:
        """Start on ``job``."""
        self.job, self.error = job, None
        self.begun[0] += 1
        if self.asleep:
            _release(self.wake)

    def end(self) -> None:
        """Wait until the job is done."""
        n = int(self.begun[0])
        if not self.pool.spin(self.ended, n, _LOOKS // 4, _PAUSE, self.scratch[1]):
            self.awaited = True
            while self.ended[0] < n:
                self.woken.acquire()
            self.awaited = False


#: How often a thread looks for a job before it sleeps: for about 3 ms. (In a ResNet's step one in
#: four jobs found it asleep after 1 ms, and began 100 us late.) The caller looks less long for the
#: end of one: the thread may be waiting for the caller's core, while another has its own.
_LOOKS = 4_000_000
#: Steps of a compiled loop, about 8 us, after which the other thread has let go of Python's lock;
#: to ask for it sooner is to sleep.
_PAUSE = 24_000


def _release(lock: threading.Lock) -> None:
    if lock.locked():
        lock.release()


def no_spin(count: Any, wanted: int, looks: int, pause: int, scratch: Any) -> bool:
    """Without a compiled loop: sleep at once."""
    return False


class Pool:
    """``count`` threads, of which the caller is one."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.workers: list[Worker] = []
        self.busy = threading.Lock()
        #: Looks at a count until it has the value wanted; False after so many looks in vain.
        self.spin: Callable[[Any, int, int, int, Any], bool] = no_spin

    def parts(self, work: int, least: int) -> int:
        """How many threads are worth waking: all from ``least`` work on (4 times that where they
        sleep), or one."""
        return self.count if work >= (4 * least if self.spin is no_spin else least) else 1

    def share(self, job: Callable[[int, int], None], n: int, parts: int, block: int = 1) -> None:
        """Call ``job(start, stop)`` for ``parts`` ranges that make up ``range(n)``, at once.

        In a job of another ``share``, and while another thread's is under way, it is one range.

        Args:
            block: a job's step. Ranges start at multiples of it, so that the blocks, and what is
                summed within them, do not depend on the number of threads.
        """
        self.share_calls(lambda start, stop: partial(job, start, stop), n, parts, block)

    def share_calls(
        self, prepare: Callable[[int, int], Callable[[], Any]], n: int, parts: int, block: int = 1
    ) -> None:
        """The same, with the call that ``prepare(start, stop)`` returns for each range.

        All are prepared before the first is made. Where a call is a compiled kernel's, or NumPy's
        own, every thread is at work without Python's lock at once: 10 us after the caller, where
        threads that prepare their ranges themselves wait for each other, 60 us.
        """
        blocks = -(-n // block)
        parts = min(parts, self.count, blocks)
        if parts < 2 or capture.active is not None or not self.busy.acquire(blocking=False):
            prepare(0, n)()  # calls of other threads are not captured
            return
        try:
            while len(self.workers) < parts - 1:
                self.workers.append(Worker(self))
            cuts = [min(blocks * i // parts * block, n) for i in range(parts + 1)]
            calls = [prepare(start, stop) for start, stop in pairwise(cuts)]
            helpers = self.workers[: parts - 1]
            with one_blas_thread:
                for worker, call in zip(helpers, calls[1:], strict=True):
                    worker.begin(partial(copy_context().run, call))
                try:
                    calls[0]()
                finally:
                    for worker in helpers:
                        worker.end()
            for worker in helpers:
                if worker.error is not None:
                    raise worker.error
        finally:
            self.busy.release()


#: Multiplications from which OpenBLAS starts threads of its own (64^3).
BLAS_THREADS = 1 << 18


class OneBlasThread:
    """``with one_blas_thread:`` NumPy's BLAS computes in the calling thread. 0.6 us."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.before = 1
        self.get: Callable[[], int] | None = None
        self.set: Callable[[int], Any] | None = None

    def _find(self) -> None:
        """The functions of the BLAS that NumPy has loaded; of OpenBLAS itself, past threadpoolctl,
        whose own take 4 us."""
        threadpoolctl = import_module("threadpoolctl")  # 35 ms, for large products only
        self.get, self.set = lambda: 1, lambda n: None
        for library in threadpoolctl.ThreadpoolController().lib_controllers:
            if library.user_api != "blas":
                continue
            self.get, self.set = library.get_num_threads, library.set_num_threads
            for affix in ("scipy_{}64_", "{}64_", "scipy_{}", "{}"):
                name = affix.format("openblas_set_num_threads")
                if hasattr(library.dynlib, name):
                    self.set = getattr(library.dynlib, name)
                    self.get = getattr(library.dynlib, name.replace("set", "get", 1))
            if "numpy" in library.filepath:
                return

    def __enter__(self) -> None:
        with self.lock:
            if self.set is None or self.get is None:
                self._find()
                assert self.set is not None and self.get is not None
            self.depth += 1
            if self.depth == 1:
                self.before = self.get()
                if self.before != 1:
                    self.set(1)

    def __exit__(self, *error: Any) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth == 0 and self.before != 1 and self.set is not None:
                self.set(self.before)


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


one_blas_thread = OneBlasThread()
pool = Pool(_cores())


def _renew() -> None:
    """After a fork: the threads are gone, and locks may be held by nobody."""
    global pool, one_blas_thread
    pool.workers, pool.busy = [], threading.Lock()
    one_blas_thread.lock, one_blas_thread.depth = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def get_num_threads() -> int:
    """The number of threads that kernels are shared out among."""
    return pool.count


def set_num_threads(count: int) -> None:
    """Share kernels out among ``count`` threads; at first one for each core."""
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"set_num_threads needs an integer of at least 1, got {count!r}.")
    pool.count = count
