"""Batches made ahead, by a thread beside the loop that uses them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextvars import copy_context
from threading import Condition, Thread
from typing import Any

from minigrad.generator import before_drawing


class _LeftError(BaseException):
    """Ends the thread where it draws and the loop has been left."""


class Prefetch:
    """The items of an iterator, of which a thread makes up to ``count`` ahead of their use.

    They come in order. An error is raised in the loop, in place of the item that could not be made.
    The thread has the settings (``no_grad``, ``autocast``) that hold where the loop begins.

    Random numbers are those that come without a thread: where making an item draws from a generator
    of minigrad, the thread waits until the loop asks for that very item, and itself waits. So an
    item that draws is made ahead up to its first draw only.
    """

    def __init__(self, items: Iterator[Any], count: int) -> None:
        self.items, self.count = items, count
        self.ready: deque[tuple[Any, BaseException | None]] = deque()  # with the error, at the end
        self.asked = self.made = 0  #: how many items the loop has asked for, and the thread made
        self.left = False
        self.news = Condition()
        self.around: Callable[[], None] | None = None  #: the turn of a thread that has this loop

    def __iter__(self) -> Iterator[Any]:
        self.around = before_drawing.get()
        settings = copy_context()
        settings.run(before_drawing.set, self._wait_for_turn)
        thread = Thread(None, settings.run, "DataLoader", (self._make,), daemon=True)
        thread.start()
        try:
            while True:
                item, error = self._next()
                if isinstance(error, StopIteration):
                    return
                if error is not None:
                    raise error
                yield item
        finally:
            with self.news:
                self.left = True
                self.news.notify_all()
            thread.join()

    def _next(self) -> tuple[Any, BaseException | None]:
        with self.news:
            self.asked += 1
            self.news.notify_all()
            self.news.wait_for(lambda: self.ready)
            found = self.ready.popleft()
            self.news.notify_all()
            return found

    # ---- in the thread --------------------------------------------------------------------------

    def _make(self) -> None:
        error: BaseException | None = None
        while error is None:
            with self.news:
                self.news.wait_for(lambda: self.left or len(self.ready) < self.count)
                if self.left:
                    return
            item = None
            try:
                item = next(self.items)
            except BaseException as raised:
                error = raised
            with self.news:
                self.ready.append((item, error))
                self.made += 1
                self.news.notify_all()

    def _wait_for_turn(self) -> None:
        """Until the loop waits for the item that is being made, and so do the loops around it."""
        with self.news:
            self.news.wait_for(lambda: self.left or self.asked > self.made)
            if self.left:
                raise _LeftError
        if self.around is not None:
            self.around()
