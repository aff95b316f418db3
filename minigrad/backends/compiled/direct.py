"""Convolution as it is written down: no windows copied, the sums of a tile kept in registers.

In channels-last memory the numbers of a window's row, kw * C of them, lie one after another, and
the next output's are a step further. So for six outputs and 16 of their channels (tiles.py)

    y[p, o] = bias[o] + sum over t and k of x[place[p] + tap[t] + k] w[t, k, o]

where a *tap* is where a row of the window begins, and a *place* where the window itself does; both
are tables made once for a geometry. Any stride and dilation is another table. The gradient of the
image is the same sum with dy and the kernel turned round, and tables for each phase of the stride;
that of the kernel sums over the places:

    dw[t, k, o] = sum over p of x[place[p] + tap[t] + k] dy[p, o]

One thread reaches 87 to 98 GFLOP/s where OpenBLAS's product of 1024 x 1024 has 87.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from minigrad.backends.base import Array
from minigrad.backends.compiled.numba_kernels import kernel, plain
from minigrad.backends.compiled.tiles import add_products, add_to, columns, put, rows_of
from minigrad.backends.cpu.convolution import Geometry, share_calls
from minigrad.backends.reference.windows import Pair
from minigrad.shapes import prod

#: The rows of a tile: with two registers each and three more, all that most processors have.
ROWS = (0, 1, 2, 3, 4, 5)
ONE = (0,)
#: Places whose products are summed in float32 before they go to a sum in float64. With one row of
#: tiles of dy they take 16 KiB of the fastest cache.
RUN = 256
#: Pieces of work that one image makes, so that there is something to share.
_PIECES = 4
#: Pixels from which an image is large: its tables are 1 MiB and more.
_LARGE = 1 << 16


@kernel
def pack(weight: Array, turned: bool, table: Array, numbers: Array, wide: int, y: Array) -> None:
    """Kernels (outputs, inputs, kh * kw), or turned (inputs, outputs, kh * kw), as tiles read them:
    for each phase (blocks of ``wide`` outputs, its weights, inputs, ``wide``)."""
    outputs, inputs, size = weight.shape
    step, stride, flat = inputs * size, size, weight.reshape(-1)
    if turned:
        outputs, inputs, step, stride = inputs, outputs, stride, step
    for phase in range(len(table)):
        i = table[phase, 5]
        for first in range(0, outputs, wide):
            count = min(wide, outputs - first)
            for number in numbers[table[phase, 6] : table[phase, 7]]:
                for c in range(inputs):
                    source = flat[first * step + c * stride + number :]
                    row = y[i : i + wide]
                    for n in range(count):
                        row[n] = source[n * step]
                    for n in range(count, wide):
                        row[n] = 0
                    i += wide


@kernel
def frame(image: Array, row: int, first: int, pitch: int, framed: Array) -> None:
    """An image, in rows of so many numbers, into the middle of a larger one, from ``first`` on."""
    for i in range(image.size // row):
        source, target = image[i * row :], framed[first + i * pitch :]
        for j in range(row):
            target[j] = source[j]


@kernel
def six(table: Array, i: int) -> Any:
    """Six numbers of a table."""
    return table[i], table[i + 1], table[i + 2], table[i + 3], table[i + 4], table[i + 5]


@kernel
def sum_windows(
    x: Array,
    places: Array,
    taps: Array,
    run: int,
    weights: Array,
    bias: Array,
    y: Array,
    outs: Array,
    outputs: int,
) -> None:
    """y[outs[p] + o] = bias[o] + sum over t, k of x[places[p] + taps[t] + k] w[t, k, o]."""
    wide = bias.size - outputs
    room, rows = np.empty(6 * wide, y.dtype), (0, wide, 2 * wide, 3 * wide, 4 * wide, 5 * wide)
    for first in range(0, outputs, wide):
        for p in range(0, places.size, 6):
            at, i = six(places, p), first * taps.size * run
            tile = rows_of(bias, first, at)
            for tap in taps:
                for k in range(tap, tap + run):
                    tile = add_products(tile, x, at, k, weights, i)
                    i += wide
            if first + wide <= outputs:
                put(tile, y, six(outs, p), first)
            else:
                put(tile, room, rows, 0)
                for r in range(6):
                    for o in range(outputs - first):
                        y[outs[p + r] + first + o] = room[r * wide + o]


@kernel
def windows_of_images(
    x: Array,
    row: int,
    first: int,
    pitch: int,
    framed: Array,
    table: Array,
    places: Array,
    taps: Array,
    weights: Array,
    bias: Array,
    y: Array,
    outs: Array,
    outputs: int,
    start: int,
    stop: int,
    pieces: int,
) -> None:
    """``sum_windows`` of pieces ``start`` to ``stop`` of images (N, numbers), ``pieces`` each."""
    for i in range(start, stop):
        n, piece = i // pieces, i % pieces
        image = x[n]
        if framed.size:
            if i == start or piece == 0:
                frame(image, row, first, pitch, framed)
            image = framed
        for phase in range(len(table)):
            p, tiles, t, count, run, w = table[phase, :6]
            begin = p + tiles * piece // pieces * 6
            end = p + tiles * (piece + 1) // pieces * 6
            sum_windows(
                image,
                places[begin:end],
                taps[t : t + count],
                run,
                weights[w:],
                bias,
                y[n],
                outs[begin:end],
                outputs,
            )


@kernel
def sum_places(
    x: Array, places: Array, taps: Array, run: int, dy: Array, room: Array, total: Array
) -> None:
    """total[t, k, o] += sum over p of x[places[p] + taps[t] + k] dy[p, o]."""
    channels, more, outputs = dy.shape[1], total.shape[1], total.shape[2]
    wide = room.size // RUN
    zeros, sums, slopes = np.zeros(wide, x.dtype), total.reshape(-1), dy.reshape(-1)
    for start in range(0, places.size, RUN):
        count = min(RUN, places.size - start)
        for first in range(0, outputs, wide):
            if first + wide <= channels:
                for p in range(count):
                    put(rows_of(slopes, (start + p) * channels + first, ONE), room, ONE, p * wide)
            else:
                for p in range(count):
                    for o in range(channels - first):
                        room[p * wide + o] = dy[start + p, first + o]
            for t in range(taps.size):
                for k in range(taps[t], taps[t] + run, 6):
                    tile, q = rows_of(zeros, 0, ROWS), 0
                    for p in range(start, start + count):
                        tile = add_products(tile, x, ROWS, places[p] + k, room, q)
                        q += wide
                    add_to(tile, sums, (t * more + k - taps[t]) * outputs + first, outputs)


@kernel
def places_of_images(
    x: Array,
    row: int,
    first: int,
    pitch: int,
    framed: Array,
    places: Array,
    taps: Array,
    run: int,
    dy: Array,
    room: Array,
    total: Array,
    start: int,
    stop: int,
) -> None:
    """``sum_places`` of images ``start`` to ``stop`` of x (N, numbers) and dy (N, pixels, O), as
    many at a time as are framed. ``room`` is for the dy of RUN places and one row of tiles."""
    pixels, channels = dy.shape[1:]
    for n in range(start, stop, len(framed)):
        count = min(len(framed), stop - n)
        for i in range(count):
            frame(x[n + i], row, first, pitch, framed[i])
        slopes = dy[n : n + count].reshape(count * pixels, channels)
        sum_places(framed.reshape(-1), places[: count * pixels], taps, run, slopes, room, total)


#: (output, weight) pairs: which outputs the pixels of a phase meet, and by which weights.
Meetings = list[tuple[int, int]]


class Phase:
    """Outputs whose windows meet the same weights: the tables of their sums.

    Args:
        places: of the windows, in pixels of the framed image.
        rows, cols: of a window, from its place on, in a framed image of ``wide`` columns.
        numbers: of the weights that meet these, row by row.
        channels: numbers a pixel of the framed image has.
        outs: where each sum goes.
    """

    def __init__(
        self,
        places: Array,
        rows: list[int],
        cols: list[int],
        numbers: list[int],
        wide: int,
        channels: int,
        outs: Array,
    ) -> None:
        # columns next to each other are one run of numbers
        joined = bool(cols) and cols == list(range(cols[0], cols[0] + len(cols)))
        starts = cols[:1] if joined else cols
        self.run = channels * (len(cols) if joined else 1)  #: numbers from a tap on
        self.taps = [(r * wide + c) * channels for r in rows for c in starts]
        self.numbers = np.array(numbers, np.int64)
        self.places = places.reshape(-1) * channels
        self.outs = outs.reshape(-1)
        self.tiles = -(-places.size // len(ROWS))
        #: numbers of the places that fill whole tiles: the last one again
        self.filled = np.minimum(np.arange(self.tiles * len(ROWS)), places.size - 1)


class Sums:
    """A convolution from images inside a border of zeros: the tables of all its phases.

    Args:
        image: rows and columns of the images.
        border: rows above and columns before them.
        framed: rows and columns with the border.
    """

    def __init__(
        self,
        image: Pair,
        border: Pair,
        framed: Pair,
        channels: int,
        outputs: int,
        phases: list[Phase],
    ) -> None:
        self.channels, self.outputs = channels, outputs
        self.row, self.pitch = image[1] * channels, framed[1] * channels
        self.first = border[0] * self.pitch + border[1] * channels
        self.size = framed[0] * self.pitch
        self.same = image == framed
        self.places = np.concatenate([s.places[s.filled] for s in phases])
        self.outs = np.concatenate([s.outs[s.filled] for s in phases])
        self.taps = np.array([tap for s in phases for tap in s.taps], np.int64)
        self.numbers = np.concatenate([s.numbers for s in phases])
        self.run = phases[0].run
        #: of the phases, as kernels read it, by the outputs in a row of tiles
        self.table = {wide: self._table(phases, wide) for wide in (8, 16)}

    def _table(self, phases: list[Phase], wide: int) -> Array:
        """For each phase its first place, its tiles, its first tap, its taps, the run of each,
        where its weights begin, and from where to where their numbers are."""
        rows, p, t, w, n = [], 0, 0, 0, 0
        for s in phases:
            count = len(s.numbers)
            rows.append((p, s.tiles, t, len(s.taps), s.run, w, n, n + count))
            p, t, n = p + len(s.filled), t + len(s.taps), n + count
            w += -(-self.outputs // wide) * wide * self.channels * count
        self.weights = w  # of 16 a row, at least as many as of 8
        return np.array(rows)

    def __call__(self, x: Array, weight: Array, turned: bool, bias: Array | None, y: Array) -> None:
        """Images (N, H, W, C) and a kernel (O, C, kh, kw) into y (N, oh, ow, O)."""
        wide = columns(x.dtype)
        table, packed = self.table[wide], np.empty(self.weights, x.dtype)
        kernel = plain(weight).reshape(*weight.shape[:2], -1)
        pack(kernel, turned, table, self.numbers, wide, packed)
        start = np.zeros(self.outputs + wide, x.dtype)
        if bias is not None:
            start[: self.outputs] = bias
        images, results = x.reshape(len(x), -1), y.reshape(len(y), -1)
        pieces = max(1, _PIECES // len(x))

        def prepare(begin: int, end: int) -> Callable[[], Any]:
            framed = np.zeros(0 if self.same else self.size, x.dtype)
            return partial(
                windows_of_images,
                images,
                self.row,
                self.first,
                self.pitch,
                framed,
                table,
                self.places,
                self.taps,
                packed,
                start,
                results,
                self.outs,
                self.outputs,
                begin,
                end,
                pieces,
            )

        share_calls(prepare, len(x) * pieces, y.size * self.channels * kernel.shape[2])


def kept(make: Callable[[Geometry], Any]) -> Callable[[Geometry], Any]:
    """``make``, whose tables are kept: of many geometries, or of few large ones."""
    small, large = lru_cache(maxsize=128)(make), lru_cache(maxsize=8)(make)
    return lambda g: large(g) if prod(g.padded) >= _LARGE else small(g)


@kept
def forward(g: Geometry) -> Sums:
    """The convolution itself: one sum."""
    (kh, kw), (dh, dw), wide = g.kernel, g.dilation, g.padded[1]
    lines, cols = (np.arange(n) * s for n, s in zip(g.out, g.stride, strict=True))
    outs = np.arange(prod(g.out)) * g.outputs
    taps = [i * dh for i in range(kh)], [j * dw for j in range(kw)]
    phase = Phase(
        np.add.outer(lines * wide, cols), *taps, list(range(kh * kw)), wide, g.channels, outs
    )
    return Sums(g.image, (g.top, g.left), g.padded, g.channels, g.outputs, [phase])


@kept
def backward(g: Geometry) -> Sums:
    """The gradient of the image: a phase for the pixels in every s-th row and column from (a, b)
    on. They meet only every s-th weight, and neighbours among them neighbouring dy."""
    (h, w), (sh, sw) = g.image, g.stride
    rows = [_meetings(a, g.top, g.kernel[0], sh, g.dilation[0]) for a in range(min(sh, h))]
    cols = [_meetings(b, g.left, g.kernel[1], sw, g.dilation[1]) for b in range(min(sw, w))]
    (top, high), (left, wide) = _frame(rows, h, sh, g.out[0]), _frame(cols, w, sw, g.out[1])
    phases = []
    for a, above in enumerate(rows):
        for b, beside in enumerate(cols):
            i, j = np.arange(a, h, sh), np.arange(b, w, sw)
            phases.append(
                Phase(
                    np.add.outer(np.arange(len(i)) * wide, np.arange(len(j))),
                    [n + top for n, _ in above],
                    [n + left for n, _ in beside],
                    [m * g.kernel[1] + n for _, m in above for _, n in beside],
                    wide,
                    g.outputs,
                    np.add.outer(i * w, j) * g.channels,
                )
            )
    return Sums(g.out, (top, left), (high, wide), g.outputs, g.channels, phases)


def _meetings(a: int, before: int, kernel: int, stride: int, dilation: int) -> Meetings:
    """What the pixels a, a + s, a + 2 s, ... meet: pixel a + i s meets an output i further on."""
    found = []
    for k in range(kernel):
        output, rest = divmod(a + before - k * dilation, stride)
        if rest == 0:
            found.append((output, k))
    return sorted(found)


def _frame(meetings: list[Meetings], size: int, stride: int, out: int) -> Pair:
    """Zeros that are needed before the first output, and how long it becomes with those after."""
    before = max(0, *(-pairs[0][0] for pairs in meetings if pairs), 0)
    last = [len(range(a, size, stride)) + pairs[-1][0] for a, pairs in enumerate(meetings) if pairs]
    return before, before + max(out, *last, 0)


def convolve(x: Array, weight: Array, bias: Array | None, y: Array, geometry: Geometry) -> None:
    """Images (N, H, W, C) and a kernel (O, C, kh, kw) into y (N, oh, ow, O)."""
    forward(geometry)(x, weight, False, bias, y)


def dimage(grad: Array, weight: Array, dx: Array, geometry: Geometry) -> None:
    """dy (N, oh, ow, O) and a kernel (O, C, kh, kw) into dx (N, H, W, C)."""
    backward(geometry)(grad, weight, True, None, dx)


@kept
def _together(geometry: Geometry) -> tuple[int, int, Array]:
    """How many images one sum over places has, the numbers of each, framed, and the places."""
    sums, pixels = forward(geometry), prod(geometry.out)
    images = max(1, min(RUN // max(1, pixels), geometry.count))
    size = sums.size + len(ROWS)  # a tile reads whole rows, and so a few numbers more
    return images, size, np.add.outer(np.arange(images) * size, sums.places[:pixels]).reshape(-1)


def dkernel(grad: Array, x: Array, geometry: Geometry) -> Array:
    """The gradient of the kernel, (kh, kw, C, O), of dy (N, oh, ow, O) and images (N, H, W, C)."""
    g, sums, wide = geometry, forward(geometry), columns(x.dtype)
    together, size, places = _together(geometry)
    outputs, run = -(-g.outputs // wide) * wide, -(-sums.run // len(ROWS)) * len(ROWS)
    images, slopes = x.reshape(len(x), -1), grad.reshape(len(x), prod(g.out), g.outputs)
    totals: list[Any] = []

    def prepare(start: int, stop: int) -> Callable[[], Any]:
        framed = np.zeros((together, size), x.dtype)
        room = np.zeros(RUN * wide, x.dtype)
        # float64: the order of images, and so the number of threads, makes no difference
        totals.append(np.zeros((len(sums.taps), run, outputs)))
        return partial(
            places_of_images,
            images,
            sums.row,
            sums.first,
            sums.pitch,
            framed,
            places,
            sums.taps,
            sums.run,
            slopes,
            room,
            totals[-1],
            start,
            stop,
        )

    share_calls(prepare, len(x), grad.size * g.channels * prod(g.kernel), together)
    total: Any = sum(totals)[:, : sums.run, : g.outputs]
    return total.astype(x.dtype).reshape(*g.kernel, g.channels, g.outputs)
