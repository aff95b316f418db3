// What every kernel file begins with: launch.py puts it in front, and after it the types T and A.
//
//   T  the type of the arrays: float, double, or half16
//   A  the type in which sums, statistics and parameters are kept: double for double, else float
//
// A kernel's parameters stand one array to a line, each with its size in terms of the scalars:
//     const T* __restrict__ x,  // [n * c]
// launch.py reads them and holds every call against them. OPTIONAL: a null pointer may come.
//
// No sum is made by atomic additions, whose order is that of chance: the same call gives the same
// bits. What one block cannot add up alone goes through partial sums and a second kernel.

#define OPTIONAL
#define INFINITE A(__int_as_float(0x7f800000))

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#ifndef CUDA_ON_CPU  // the tests, which run the kernels on the CPU, bring their own
__device__ __forceinline__ float half_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
__device__ __forceinline__ unsigned short float_to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif

// IEEE float16 in memory; everything is computed in float.
struct half16 {
    unsigned short bits;
    half16() = default;
    __device__ __forceinline__ half16(float value) : bits(float_to_half(value)) {}
    __device__ __forceinline__ operator float() const { return half_to_float(bits); }
};

// ---- elements: threads stride over n of them -------------------------------------------------

// n is at most 2^31 - 1, so that 32 bits hold i + all_threads(), too: they divide faster than 64.

__device__ __forceinline__ u32 first_element() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ u32 all_threads() { return gridDim.x * blockDim.x; }

// ---- reductions ------------------------------------------------------------------------------

struct Add {
    template <class V> __device__ V operator()(V a, V b) const { return a + b; }
};
struct Larger {  // NaN is the largest
    template <class V> __device__ V operator()(V a, V b) const {
        return (a > b || a != a) ? a : b;
    }
};

template <class V> __device__ __forceinline__ V other_lane(V v, int offset) {
    return __shfl_xor_sync(0xffffffffu, v, offset);
}

// All lanes get the same bits: `both` always takes the lower lane's value first.
template <class V, class F> __device__ __forceinline__ V across_lanes(V v, F both, int lanes) {
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
        V other = other_lane(v, offset);
        v = (threadIdx.x & offset) ? both(other, v) : both(v, other);
    }
    return v;
}

// `both` of the values of a row of threads (all threadIdx.x of one threadIdx.y), in every one of
// them. blockDim.x is a power of two from 32; above 32 it is a whole block. slots: [32], shared.
template <class V, class F> __device__ V across_row(V v, F both, V* slots) {
    v = across_lanes(v, both, 32);
    if (blockDim.x == 32) return v;
    int warps = blockDim.x / 32;
    __syncthreads();  // the slots may still be read from the call before
    if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = v;
    __syncthreads();
    return across_lanes(slots[threadIdx.x % warps], both, warps);
}

// `both` of the values of a column of threads (all threadIdx.y of one threadIdx.x), in every one
// of them. blockDim.y is a power of two. slots: [blockDim.x * blockDim.y], shared.
template <class V, class F> __device__ V across_column(V v, F both, V* slots) {
    int place = threadIdx.y * blockDim.x + threadIdx.x;
    __syncthreads();  // the slots may still be read from the call before
    slots[place] = v;
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half) slots[place] = both(slots[place], slots[place + half * blockDim.x]);
    }
    __syncthreads();
    return slots[threadIdx.x];
}

// ---- channels --------------------------------------------------------------------------------

// A channel c of x (N, C, S) has N * S values, counted image by image. A block (bx, by) takes bx
// channels and the part blockIdx.y of their values; the by threads of a channel walk over it side
// by side. bx is 1 where S is long (neighbours in a channel are neighbours in memory) and 32 where
// it is not (neighbouring channels are).
#define THREADS 512  // of such a block, at most

// The place in memory of one value after another: i = first, first + step, ... of channel c.
struct Walk {
    i64 place;       // (n * C + c) * S + s
    int s, S;
    int s_step;      // step = n_step * S + s_step
    i64 far, carry;  // n_step images and s_step values further; and one image more, less S

    __device__ Walk(int first, int step, int c, int C, int S)
        : place(((i64)(first / S) * C + c) * S + first % S), s(first % S), S(S), s_step(step % S),
          far((i64)(step / S) * C * S + step % S), carry((i64)(C - 1) * S) {}

    __device__ __forceinline__ void next() {
        place += far;
        s += s_step;
        if (s >= S) {
            s -= S;
            place += carry;
        }
    }
};

// Which values of its channel a thread visits: first, first + step, ..., `visits` of them.
struct Share {
    int c, first, step, visits;

    __device__ Share(int count, int part) {
        int start = blockIdx.y * part, length = min(part, count - start), mine = threadIdx.y;
        c = blockIdx.x * blockDim.x + threadIdx.x;
        first = start + mine;
        step = blockDim.y;
        visits = mine < length ? (length - mine + step - 1) / step : 0;
    }
};
