// CUDA kernels on the CPU, for tests: a thread of a block is a fiber, one block runs after another.
//
// Threads run in random order, until they come to a barrier; a barrier opens when all threads have
// arrived at the same one. Nothing runs in lockstep, not even a warp: what a kernel does not
// synchronise, it gets in any order. Shared memory is full of NaN when a block begins. It shows
// missing barriers and wrong places; it cannot show what the order of memory accesses on a GPU,
// or its speed, would be.
#pragma once
#define CUDA_ON_CPU
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("shared_memory")))
#define __restrict__ __restrict
#define __syncthreads() cuda::block_barrier(__LINE__)
#define __syncwarp() cuda::warp_barrier(__LINE__)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;
using std::isfinite;
using std::max;
using std::min;

static inline float half_to_float(unsigned short bits) {
    _Float16 value;
    memcpy(&value, &bits, 2);
    return (float)value;
}
static inline unsigned short float_to_half(float value) {
    _Float16 narrow = (_Float16)value;
    unsigned short bits;
    memcpy(&bits, &narrow, 2);
    return bits;
}
static inline float __int_as_float(int bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

extern "C" {
extern char __start_shared_memory[] __attribute__((weak));
extern char __stop_shared_memory[] __attribute__((weak));
}

namespace cuda {
enum State { ready, at_block_barrier, at_warp_barrier, done };
struct Thread {  // a fiber: it runs the kernel for one block after another
    ucontext_t context;
    jmp_buf place;
    std::vector<char> stack;
    bool begun;
    dim3 index;
    State state;
    int line;
    char slot[32];  // what it offers to the other lanes
};
static std::vector<Thread> threads;
static jmp_buf scheduler;
static unsigned count, running;
static void (*body)(void**);  // the kernel, with its arguments
static void** arguments;
static char error[200];
static uint64_t dice;

static unsigned draw(unsigned below) {  // Marsaglia's xorshift
    dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
    return (dice >> 20) % below;
}
static void wait(State state, int line) {
    Thread& me = threads[running];
    me.state = state, me.line = line;
    if (!_setjmp(me.place)) _longjmp(scheduler, 1);
}
static void block_barrier(int line) { wait(at_block_barrier, line); }
static void warp_barrier(int line) { wait(at_warp_barrier, line); }
static void run_thread() {
    while (true) {
        body(arguments);
        wait(done, 0);
    }
}
// Run a thread up to its next barrier, or its end.
static __attribute__((noinline)) void resume(unsigned t) {
    Thread& thread = threads[t];
    running = t, threadIdx = thread.index;
    if (_setjmp(scheduler)) return;
    if (thread.begun) _longjmp(thread.place, 1);
    thread.begun = true;
    thread.stack.resize(1 << 16);
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.data();
    thread.context.uc_stack.ss_size = thread.stack.size();
    makecontext(&thread.context, run_thread, 0);
    setcontext(&thread.context);
}

// Open the barriers at which all of first .. last - 1 stand; complain where they cannot open.
static bool open(unsigned first, unsigned last, State state) {
    for (unsigned t = first; t < last; t++)
        if (threads[t].state != state || threads[t].line != threads[first].line) return false;
    for (unsigned t = first; t < last; t++) threads[t].state = ready;
    return true;
}
static void run_block() {
    memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
    std::vector<unsigned> order;
    for (unsigned t = 0; t < count; t++) {
        Thread& thread = threads[t];
        thread.index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
        thread.state = ready;
        order.push_back(t);
    }
    while (true) {
        for (unsigned i = count - 1; i > 0; i--) std::swap(order[i], order[draw(i + 1)]);
        bool moved = false;
        for (unsigned t : order) {
            if (threads[t].state != ready) continue;
            moved = true;
            resume(t);
        }
        for (unsigned first = 0; first < count; first += 32)
            moved |= open(first, std::min(first + 32, count), at_warp_barrier);
        moved |= open(0, count, at_block_barrier);
        if (moved) continue;
        for (unsigned t = 0; t < count; t++) {
            if (threads[t].state == done) continue;
            threads[t].begun = false;  // what it was at is left
            snprintf(error, sizeof error,
                     "a barrier (line %d) that not all threads of the block, or warp, come to",
                     std::abs(threads[t].line));
        }
        return;
    }
}
// Returns a message, empty where all went well.
static const char* launch(const unsigned* grid, const unsigned* block, uint64_t seed,
                          void (*kernel)(void**), void** given) {
    gridDim = {grid[0], grid[1], grid[2]}, blockDim = {block[0], block[1], block[2]};
    count = block[0] * block[1] * block[2], body = kernel, arguments = given;
    dice = seed * 2 + 1, error[0] = 0;
    if (threads.size() < count) threads.resize(count);
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                blockIdx = {x, y, z};
                run_block();
                if (error[0]) return error;
            }
    return "";
}
template <class V> static V from_lane(V value, unsigned lane, int line) {
    static_assert(sizeof(V) <= sizeof(Thread::slot), "a shuffle moves at most 32 bytes");
    memcpy(threads[running].slot, &value, sizeof(V));
    warp_barrier(line);
    unsigned other = running / 32 * 32 + lane % 32;
    if (lane < 32 && other < count) memcpy(&value, threads[other].slot, sizeof(V));
    warp_barrier(-line);
    return value;
}
}  // namespace cuda

#define __shfl_sync(mask, value, lane) cuda::from_lane(value, lane, __LINE__)
#define __shfl_xor_sync(mask, value, offset) \
    cuda::from_lane(value, (cuda::running % 32) ^ (offset), __LINE__)
#define __shfl_down_sync(mask, value, offset) \
    cuda::from_lane(value, cuda::running % 32 + (offset), __LINE__)
#define __shfl_up_sync(mask, value, offset) \
    cuda::from_lane(value, cuda::running % 32 - (unsigned)(offset), __LINE__)
