// Activations, the gradient of a bias, dropout: each value once, in a stride of all threads over all elements.

// ---- activations and the gradient of a bias ----------------------------------------------------

// y = max(x, 0); NaN stays NaN.
extern "C" __global__ void relu(
    const T* __restrict__ x,  // [n]
    T* __restrict__ y,        // [n]
    u32 n) {
    for (u32 i = first_element(); i < n; i += all_threads()) y[i] = A(x[i]) <= A(0) ? T(A(0)) : x[i];
}

// dx = dy where y > 0, else 0.
extern "C" __global__ void relu_backward(
    const T* __restrict__ grad,  // [n]
    const T* __restrict__ y,     // [n]
    T* __restrict__ dx,          // [n]
    u32 n) {
    for (u32 i = first_element(); i < n; i += all_threads())
        dx[i] = A(y[i]) > A(0) ? grad[i] : T(A(0));
}

// y = 1 / (1 + exp(-x)); where exp overflows, 1 / inf is the 0 that is wanted.
extern "C" __global__ void sigmoid(
    const T* __restrict__ x,  // [n]
    T* __restrict__ y,        // [n]
    u32 n) {
    for (u32 i = first_element(); i < n; i += all_threads()) y[i] = T(A(1) / (A(1) + exp(-A(x[i]))));
}

// dx = dy y (1 - y).
extern "C" __global__ void sigmoid_backward(
    const T* __restrict__ grad,  // [n]
    const T* __restrict__ y,     // [n]
    T* __restrict__ dx,          // [n]
    u32 n) {
    for (u32 i = first_element(); i < n; i += all_threads()) {
        A value = y[i];
        dx[i] = T(A(grad[i]) * (value * (A(1) - value)));
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
