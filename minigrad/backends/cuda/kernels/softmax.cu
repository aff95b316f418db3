// Softmax and cross entropy, row by row.
//
//   softmax(z)_j = exp(z_j - max z) / sum_k exp(z_k - max z)
//   loss = -ln softmax(z)_t = ln sum_k exp(z_k - max z) - (z_t - max z)
//
// The largest z cancels: no exponential overflows. One pass finds the maximum and the sum together:
// where a larger maximum turns up, the sum so far is scaled to it.
//
// Source: Milakov and Gimelshein (2018), "Online normalizer calculation for softmax",
// arXiv:1805.02867, algorithm 3.

struct Exponentials {
    A largest, sum;  // sum of exp(z - largest)
};
__device__ __forceinline__ Exponentials other_lane(Exponentials e, int offset) {
    return {other_lane(e.largest, offset), other_lane(e.sum, offset)};
}

// exp(z - largest); while nothing but -inf was seen, the sum counts those.
__device__ __forceinline__ A below(A z, A largest) {
    return largest == -INFINITE ? A(1) : exp(z - largest);
}

struct Together {
    __device__ Exponentials operator()(Exponentials p, Exponentials q) const {
        A largest = Larger()(p.largest, q.largest);
        return {largest, p.sum * below(p.largest, largest) + q.sum * below(q.largest, largest)};
    }
};

__device__ Exponentials exponentials(const T* __restrict__ z, int width, Exponentials* slots) {
    Exponentials e = {-INFINITE, 0};
    for (int j = threadIdx.x; j < width; j += blockDim.x) e = Together()(e, {A(z[j]), A(1)});
    return across_row(e, Together(), slots);
}

// y = softmax(x), or its logarithm.
extern "C" __global__ void softmax(
    const T* __restrict__ x,  // [rows * width]
    T* __restrict__ y,        // [rows * width]
    int rows, int width, int logarithm) {
    __shared__ Exponentials slots[32];
    int r = blockIdx.x * blockDim.y + threadIdx.y;
    if (r >= rows) return;  // whole warps, and never of a block that is one row
    const T* z = x + (i64)r * width;
    Exponentials e = exponentials(z, width, slots);
    A log_sum = log(e.sum);
    for (int j = threadIdx.x; j < width; j += blockDim.x) {
        A v = A(z[j]) - e.largest;
        y[(i64)r * width + j] = logarithm ? v - log_sum : exp(v) / e.sum;
    }
}

// The loss of each row, 0 where its target is ignore_index; and softmax(logits) for the gradient.
// A target that is no class gives NaN.
extern "C" __global__ void cross_entropy(
    const T* __restrict__ logits,     // [rows * width]
    const i64* __restrict__ target,   // [rows]
    T* __restrict__ loss,             // [rows]
    T* __restrict__ probabilities,    // [rows * width]
    int rows, int width, i64 ignore_index) {
    __shared__ Exponentials slots[32];
    int r = blockIdx.x * blockDim.y + threadIdx.y;
    if (r >= rows) return;
    const T* z = logits + (i64)r * width;
    Exponentials e = exponentials(z, width, slots);
    for (int j = threadIdx.x; j < width; j += blockDim.x)
        probabilities[(i64)r * width + j] = exp(A(z[j]) - e.largest) / e.sum;
    if (threadIdx.x > 0) return;
    i64 t = target[r];
    if (t == ignore_index)
        loss[r] = T(A(0));
    else if (t < 0 || t >= width)
        loss[r] = T(INFINITE - INFINITE);
    else
        loss[r] = T(log(e.sum) - (A(z[t]) - e.largest));
}

// How many targets count: one block. Whole numbers, so that float16 is exact as far as it goes.
extern "C" __global__ void count_kept(
    const i64* __restrict__ target,  // [rows]
    T* __restrict__ count,           // [1]
    int rows, i64 ignore_index) {
    __shared__ int slots[32];
    int kept = 0;
    for (int r = threadIdx.x; r < rows; r += blockDim.x) kept += target[r] != ignore_index;
    kept = across_row(kept, Add(), slots);
    if (threadIdx.x == 0) *count = T(A(kept));
}

// dlogits = dy (softmax(logits) - onehot(target)), 0 where ignored. dy is one number a row
// (stride 1), or one for all (stride 0).
extern "C" __global__ void cross_entropy_backward(
    const T* __restrict__ grad,           // [(rows - 1) * stride + 1]
    const T* __restrict__ probabilities,  // [rows * width]
    const i64* __restrict__ target,       // [rows]
    T* __restrict__ dlogits,              // [rows * width]
    int rows, int width, int stride, i64 ignore_index) {
    int r = blockIdx.x * blockDim.y + threadIdx.y;
    if (r >= rows) return;
    i64 t = target[r];
    A dy = t == ignore_index ? A(0) : A(grad[(i64)r * stride]);
    for (int j = threadIdx.x; j < width; j += blockDim.x) {
        i64 place = (i64)r * width + j;
        dlogits[place] = T((A(probabilities[place]) - A(j == t && t != ignore_index)) * dy);
    }
}
