// Bias, activations and dropout: each value once, in a stride of all threads over all elements.

// ---- bias and activation -----------------------------------------------------------------------
//
//   y = f(x + b)          b is one number a channel of x (N, C, S)
//   dx = dy f'(x + b)     db = sum of dx over images and places

enum Kind { IDENTITY, RELU, SIGMOID, TANH, GELU, GELU_TANH, SILU };

__device__ __forceinline__ A sigmoid(A x) { return A(1) / (A(1) + exp(-x)); }
__device__ __forceinline__ A normal(A x) { return A(0.5) * (A(1) + erf(x * A(0.70710678118654752))); }
__device__ __forceinline__ A bent(A x) {  // the tanh by which GELU is approximated
    return tanh(A(0.79788456080286536) * (x + A(0.044715) * x * x * x));
}

// Source for GELU: Hendrycks and Gimpel (2016), arXiv:1606.08415. NaN stays NaN everywhere.
__device__ A value(int kind, A x) {
    switch (kind) {
        case RELU: return x <= A(0) ? A(0) : x;
        case SIGMOID: return sigmoid(x);
        case TANH: return tanh(x);
        case GELU: return x * normal(x);
        case GELU_TANH: return A(0.5) * x * (A(1) + bent(x));
        case SILU: return x * sigmoid(x);
        default: return x;
    }
}

// f' from the value y for ReLU, sigmoid and tanh, which keep nothing else; from x for the others.
__device__ A slope(int kind, A v) {
    switch (kind) {
        case SIGMOID: return v * (A(1) - v);
        case TANH: return A(1) - v * v;
        case GELU: return normal(v) + v * exp(A(-0.5) * v * v) * A(0.39894228040143268);
        case GELU_TANH: {
            A t = bent(v), inner = A(0.79788456080286536) * (A(1) + A(0.134145) * v * v);
            return A(0.5) * (A(1) + t) + A(0.5) * v * (A(1) - t * t) * inner;
        }
        case SILU: {
            A s = sigmoid(v);
            return s * (A(1) + v * (A(1) - s));
        }
        default: return A(1);
    }
}

extern "C" __global__ void bias_activation(
    const T* __restrict__ x,             // [n]
    OPTIONAL const T* __restrict__ bias,  // [C]
    T* __restrict__ y,                    // [n]
    u32 n, int C, int S, int kind) {
    for (u32 i = first_element(); i < n; i += all_threads()) {
        A b = bias ? A(bias[S == 1 ? i % C : i / S % C]) : A(0);
        y[i] = T(value(kind, A(x[i]) + b));
    }
}

// `kept` is y for ReLU, sigmoid and tanh, and x + b for the others.
extern "C" __global__ void activation_backward(
    const T* __restrict__ grad,  // [n]
    const T* __restrict__ kept,  // [n]
    T* __restrict__ dx,          // [n]
    u32 n, int kind) {
    for (u32 i = first_element(); i < n; i += all_threads()) {
        A dy = grad[i], v = kept[i];
        dx[i] = T(kind == RELU ? (v > A(0) ? dy : A(0)) : dy * slope(kind, v));
    }
}

// db = sum of dy over the images and places of a channel, for each part of it.
extern "C" __global__ void bias_backward(
    const T* __restrict__ grad,  // [count * C]
    A* __restrict__ dbias,       // [parts * C]
    int count, int C, int S, int part, int parts) {
    __shared__ A slots[THREADS];
    Share share(count, part);
    int c = min(share.c, C - 1);
    Walk walk(share.first, share.step, c, C, S);
    A sum = 0;
    for (int left = share.c < C ? share.visits : 0; left > 0; left--, walk.next())
        sum += A(grad[walk.place]);
    sum = across_column(sum, Add(), slots);
    if (share.c < C && threadIdx.y == 0) dbias[(i64)blockIdx.y * C + c] = sum;
}

// ---- dropout -----------------------------------------------------------------------------------
//
//   y = x / p where a random number is below p, else 0;  dx from dy in the same way
//
// p is the share that is kept. The random numbers are a function of (seed, call, element): a block
// cipher, Philox, of the counter. So nothing is kept but two numbers, and backward draws the same
// numbers again. They lie in device memory: a captured step draws new ones in every replay.
//
// Source: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3", Philox 4x32-10.

struct Four {
    u32 word[4];
};

__device__ Four philox(u64 key, u64 high, u64 low) {
    u32 k0 = (u32)key, k1 = (u32)(key >> 32);
    Four c = {{(u32)low, (u32)(low >> 32), (u32)high, (u32)(high >> 32)}};
#pragma unroll
    for (int round = 0; round < 10; round++) {
        u64 p = (u64)0xD2511F53u * c.word[0], q = (u64)0xCD9E8D57u * c.word[2];
        c = {{(u32)(q >> 32) ^ c.word[1] ^ k0, (u32)q, (u32)(p >> 32) ^ c.word[3] ^ k1, (u32)p}};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

// Take (seed, call) for one dropout, and count the call: one thread.
extern "C" __global__ void dropout_next(
    u64* __restrict__ state,  // [2]
    u64* __restrict__ taken   // [2]
) {
    taken[0] = state[0];
    taken[1] = state[1]++;
}

// Element 4 i + k is kept where word k of philox(seed, call, i) is below `bound` = 2^32 p.
extern "C" __global__ void dropout(
    const T* __restrict__ x,        // [n]
    const u64* __restrict__ taken,  // [2]
    T* __restrict__ y,              // [n]
    u32 n, u64 bound, A scale) {
    for (u32 i = first_element(); 4 * i < n; i += all_threads()) {
        Four random = philox(taken[0], taken[1], i);
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (4 * i + k < n)
                y[4 * i + k] = T(random.word[k] < bound ? A(x[4 * i + k]) * scale : A(0));
    }
}
