// Pooling: one number for each window of an image, and the gradients.
//
//   maximum   y = max of the window          dx = sum of the dy of the windows that the cell won
//   average   y = share * sum of the window  dx = sum of share * dy of the windows it is in
//
// x is (planes, H, W), y (planes, oh, ow). Window (a, b) begins at row a * sh - top and column
// b * sw - left, and its cell (i, j) is dh, dw cells apart. Gradients are gathered: a thread has one
// place of dx and asks which windows hold it, so that nothing is added up by two threads.

struct Windows {
    int H, W, oh, ow, kh, kw, sh, sw, top, left, dh, dw;
};
#define WINDOWS Windows{H, W, oh, ow, kh, kw, sh, sw, top, left, dh, dw}

// Which window along one axis has `place` as its cell i: -1 where none has.
__device__ __forceinline__ int window_at(int place, int i, int stride, int before, int apart,
                                         int windows) {
    int start = place + before - i * apart;
    if (start < 0 || start % stride) return -1;
    return start / stride < windows ? start / stride : -1;
}

// The largest of each window and the number of its cell, row by row; of equal ones the first. NaN
// is the largest, and of several the last. Cells in the border never win.
template <class Cell>
__device__ void max_pool(const T* x, T* y, Cell* winner, u32 n, Windows w) {
    for (u32 o = first_element(); o < n; o += all_threads()) {
        int b = o % w.ow, a = o / w.ow % w.oh;
        const T* plane = x + (i64)(o / (w.ow * w.oh)) * w.H * w.W;
        A best = -INFINITE;
        int cell = 0;
        bool seen = false;
        for (int i = 0; i < w.kh; i++) {
            int row = a * w.sh - w.top + i * w.dh;
            if (row < 0 || row >= w.H) continue;
            for (int j = 0; j < w.kw; j++) {
                int column = b * w.sw - w.left + j * w.dw;
                if (column < 0 || column >= w.W) continue;
                A v = plane[(i64)row * w.W + column];
                if (!seen || v > best || v != v) best = v, cell = i * w.kw + j;
                seen = true;
            }
        }
        y[o] = T(best);
        winner[o] = cell;
    }
}

template <class Cell>
__device__ void max_pool_gradient(const T* grad, const Cell* winner, T* dx, u32 n, Windows w) {
    for (u32 p = first_element(); p < n; p += all_threads()) {
        int column = p % w.W, row = p / w.W % w.H;
        i64 plane = (i64)(p / (w.W * w.H)) * w.oh * w.ow;
        A sum = 0;
        for (int i = 0; i < w.kh; i++) {
            int a = window_at(row, i, w.sh, w.top, w.dh, w.oh);
            if (a < 0) continue;
            for (int j = 0; j < w.kw; j++) {
                int b = window_at(column, j, w.sw, w.left, w.dw, w.ow);
                if (b < 0) continue;
                i64 o = plane + (i64)a * w.ow + b;
                if ((int)winner[o] == i * w.kw + j) sum += A(grad[o]);
            }
        }
        dx[p] = T(sum);
    }
}

// Cell numbers are kept in one byte where a window has fewer than 256 cells ...
extern "C" __global__ void max_pool2d(
    const T* __restrict__ x,    // [n // (oh * ow) * H * W]
    T* __restrict__ y,          // [n]
    u8* __restrict__ winner,    // [n]
    u32 n, int H, int W, int oh, int ow, int kh, int kw, int sh, int sw, int top, int left, int dh,
    int dw) {
    max_pool(x, y, winner, n, WINDOWS);
}

extern "C" __global__ void max_pool2d_backward(
    const T* __restrict__ grad,     // [n // (H * W) * oh * ow]
    const u8* __restrict__ winner,  // [n // (H * W) * oh * ow]
    T* __restrict__ dx,             // [n]
    u32 n, int H, int W, int oh, int ow, int kh, int kw, int sh, int sw, int top, int left, int dh,
    int dw) {
    max_pool_gradient(grad, winner, dx, n, WINDOWS);
}

// ... and in eight where it has more.
extern "C" __global__ void max_pool2d_large(
    const T* __restrict__ x,    // [n // (oh * ow) * H * W]
    T* __restrict__ y,          // [n]
    i64* __restrict__ winner,   // [n]
    u32 n, int H, int W, int oh, int ow, int kh, int kw, int sh, int sw, int top, int left, int dh,
    int dw) {
    max_pool(x, y, winner, n, WINDOWS);
}

extern "C" __global__ void max_pool2d_large_backward(
    const T* __restrict__ grad,      // [n // (H * W) * oh * ow]
    const i64* __restrict__ winner,  // [n // (H * W) * oh * ow]
    T* __restrict__ dx,              // [n]
    u32 n, int H, int W, int oh, int ow, int kh, int kw, int sh, int sw, int top, int left, int dh,
    int dw) {
    max_pool_gradient(grad, winner, dx, n, WINDOWS);
}

// share (oh, ow): 1 / the number of cells that count in each window.
extern "C" __global__ void avg_pool2d(
    const T* __restrict__ x,      // [n // (oh * ow) * H * W]
    const T* __restrict__ share,  // [oh * ow]
    T* __restrict__ y,            // [n]
    u32 n, int H, int W, int oh, int ow, int kh, int kw, int sh, int sw, int top, int left) {
    for (u32 o = first_element(); o < n; o += all_threads()) {
        int b = o % ow, a = o / ow % oh;
        const T* plane = x + (i64)(o / (ow * oh)) * H * W;
        A sum = 0;
        for (int i = 0; i < kh; i++) {
            int row = a * sh - top + i;
            if (row < 0 || row >= H) continue;
            for (int j = 0; j < kw; j++) {
                int column = b * sw - left + j;
                if (column >= 0 && column < W) sum += A(plane[(i64)row * W + column]);
            }
        }
        y[o] = T(sum * A(share[a * ow + b]));
    }
}

extern "C" __global__ void avg_pool2d_backward(
    const T* __restrict__ grad,   // [n // (H * W) * oh * ow]
    const T* __restrict__ share,  // [oh * ow]
    T* __restrict__ dx,           // [n]
    u32 n, int H, int W, int oh, int ow, int kh, int kw, int sh, int sw, int top, int left) {
    for (u32 p = first_element(); p < n; p += all_threads()) {
        int column = p % W, row = p / W % H;
        const T* plane = grad + (i64)(p / (W * H)) * oh * ow;
        A sum = 0;
        for (int i = 0; i < kh; i++) {
            int a = window_at(row, i, sh, top, 1, oh);
            if (a < 0) continue;
            for (int j = 0; j < kw; j++) {
                int b = window_at(column, j, sw, left, 1, ow);
                if (b >= 0) sum += A(plane[(i64)a * ow + b]) * A(share[a * ow + b]);
            }
        }
        dx[p] = T(sum);
    }
}
