// Stands in for CUDA on the host, so that g++ compiles a kernel as it is: the threads of all blocks run one
// after another; those of a block that meet at a barrier take turns, each on a stack of its own.
#pragma once

#include <math.h>
#include <string.h>
#include <ucontext.h>

#include <memory>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct Dim3 {
    unsigned x, y, z;
};

static Dim3 threadIdx, blockIdx, blockDim, gridDim;

static inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

template <class T>
static inline T atomicAdd(T *target, T value) {
    const T before = *target;
    *target += value;
    return before;
}

template <class T>
static inline T atomicMax(T *target, T value) {
    const T before = *target;
    if (before < value) *target = value;
    return before;
}

namespace host {

const size_t STACK_BYTES = 1 << 16;

struct Fibre {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    bool done;
};

static ucontext_t scheduler;
static Fibre *running = nullptr;
static void (*body)() = nullptr;

static inline void enter() {
    body();
    running->done = true;
    swapcontext(&running->context, &scheduler);
}

// All threads of a block from one barrier to the next, until every one has ended.
static inline void run_in_turns(unsigned threads, bool backwards) {
    static std::vector<Fibre> fibres;
    if (fibres.size() < threads) fibres.resize(threads);
    for (unsigned i = 0; i < threads; ++i) {
        Fibre &fibre = fibres[i];
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = fibre.stack.get();
        fibre.context.uc_stack.ss_size = STACK_BYTES;
        fibre.context.uc_link = nullptr;
        fibre.done = false;
        makecontext(&fibre.context, enter, 0);
    }
    for (bool more = true; more;) {
        more = false;
        for (unsigned k = 0; k < threads; ++k) {
            threadIdx.x = backwards ? threads - 1 - k : k;
            running = &fibres[threadIdx.x];
            if (running->done) continue;
            swapcontext(&scheduler, &running->context);
            more |= !running->done;
        }
    }
    running = nullptr;
}

// backwards: blocks and threads in the opposite order, which must change nothing.
template <class Arguments, void (*kernel)(Arguments)>
static void launch(const unsigned *grid, unsigned threads, const void *arguments, bool barriers, bool backwards) {
    static Arguments given;
    memcpy(&given, arguments, sizeof given);
    body = [] { kernel(given); };
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {threads, 1, 1};
    const unsigned long long blocks = (unsigned long long)grid[0] * grid[1] * grid[2];
    for (unsigned long long k = 0; k < blocks; ++k) {
        const unsigned long long block = backwards ? blocks - 1 - k : k;
        blockIdx.x = (unsigned)(block % grid[0]);
        blockIdx.y = (unsigned)(block / grid[0] % grid[1]);
        blockIdx.z = (unsigned)(block / grid[0] / grid[1]);
        threadIdx = {0, 0, 0};
        if (barriers)
            run_in_turns(threads, backwards);
        else
            for (unsigned i = 0; i < threads; ++i) {
                threadIdx.x = backwards ? threads - 1 - i : i;
                body();
            }
    }
}

}  // namespace host

[[maybe_unused]] static inline void __syncthreads() { swapcontext(&host::running->context, &host::scheduler); }
