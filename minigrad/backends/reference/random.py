"""Random numbers that are a function of a key and a counter, so that nothing waits for a host."""

from __future__ import annotations

from minigrad.backends.base import Array, Backend

MASK = 0xFFFFFFFF  # the lower 32 bits


class Random(Backend):
    """Dropout in device memory: only two numbers are kept, and backward draws the same again."""

    def dropout(self, x: Array, p: float, state: Array) -> tuple[Array, Array]:
        """x / (1 - p) where a random number says so, 0 elsewhere; and what the gradient needs.

        Args:
            p: the share that becomes 0.
            state: (seed, number of the call), uint64, in device memory; the call is counted.
        """
        taken = state.copy()
        state[1:] += 1
        return self.dropout_backward(x, p, taken), taken

    def dropout_backward(self, grad: Array, p: float, taken: Array) -> Array:
        """dx: dy by the same random numbers, drawn again.

        Element 4 i + k is kept where word k of philox(seed, call, i) is below 2^32 (1 - p).
        """
        kept = self.random_words(taken, grad.size) < round((1 - p) * 2**32)
        scaled = self._wide(grad) * (1 / (1 - p) if p < 1 else 0.0)
        y = self.where(kept.reshape(grad.shape), scaled, self.zeros_like(scaled))
        return y.astype(grad.dtype, copy=False)

    def random_words(self, taken: Array, n: int) -> Array:
        """``n`` numbers from 0 to 2^32 - 1, of Philox 4x32 in 10 rounds, as uint64.

        Source: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3", section 3.
        """
        seed, call = taken[0:1], taken[1:2]
        k0, k1 = seed & MASK, seed >> 32
        c0 = self.arange(-(-n // 4), dtype="uint64")
        c1, c2, c3 = c0 >> 32, (call & MASK) + c0 * 0, (call >> 32) + c0 * 0
        c0 = c0 & MASK
        for _ in range(10):
            p, q = c0 * 0xD2511F53, c2 * 0xCD9E8D57
            c0, c1, c2, c3 = (q >> 32) ^ c1 ^ k0, q & MASK, (p >> 32) ^ c3 ^ k1, p & MASK
            k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
        return self.stack([c0, c1, c2, c3], axis=1).reshape(-1)[:n]
