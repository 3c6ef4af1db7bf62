// CUDA's execution model on one CPU thread, enough for the code that TVM generates: the threads of a block are fibers,
// which change places at barriers and warp exchanges only. Shared variables are static, because blocks run in turn.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__
#define __shared__ static
#define CUDART_INF_F INFINITY
#define CUDART_INF INFINITY
#define CUDART_NAN_F NAN
#define CUDART_NAN NAN
using std::max;
using std::min;

struct Index { unsigned x = 0, y = 0, z = 0; };
static Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulated {
enum State { RUNNABLE, AT_WARP, AT_BLOCK, DONE };
struct Fiber { ucontext_t context; State state; Index thread; std::vector<char> stack; };
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static size_t current = 0;
static std::vector<uint64_t> lanes;
static void (*body)(void**) = nullptr;
static void** arguments = nullptr;
static int diverged = 0;
static int misaligned = 0;

inline void wait(State state) {
  Fiber& self = fibers[current];
  self.state = state;
  swapcontext(&self.context, &scheduler);
}
inline void enter() {
  body(arguments);
  fibers[current].state = DONE;
  swapcontext(&fibers[current].context, &scheduler);
}
inline void run_block() {
  for (size_t i = 0; i < fibers.size(); ++i) {
    Fiber& fiber = fibers[i];
    fiber.state = RUNNABLE;
    fiber.thread = {unsigned(i % blockDim.x), unsigned(i / blockDim.x % blockDim.y), unsigned(i / blockDim.x / blockDim.y)};
    getcontext(&fiber.context);
    fiber.stack.resize(256 * 1024);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    makecontext(&fiber.context, enter, 0);
  }
  auto release = [](State state, size_t begin, size_t end) {
    int count = 0;
    for (size_t i = begin; i < end; ++i)
      if (fibers[i].state == state) { fibers[i].state = RUNNABLE; ++count; }
    return count;
  };
  while (true) {
    // Each warp runs on to its next barrier before another begins, so that a missing barrier shows.
    for (size_t warp = 0; warp < fibers.size(); warp += 32) {
      size_t end = min(warp + 32, fibers.size());
      do {
        for (current = warp; current < end; ++current) {
          if (fibers[current].state != RUNNABLE) continue;
          threadIdx = fibers[current].thread;
          swapcontext(&scheduler, &fibers[current].context);
        }
      } while (release(AT_WARP, warp, end));
    }
    int waiting = release(AT_BLOCK, 0, fibers.size());
    if (!waiting) return;
    // A barrier that some threads never reach is undefined on a GPU.
    if (waiting != int(fibers.size())) diverged = 1;
  }
}
// Every lane of the warp shows its value, and reads that of another.
template <typename T> T exchange(T value, int source) {
  size_t self = current, warp = self / 32 * 32;
  memcpy(&lanes[self], &value, sizeof(T));
  wait(AT_WARP);
  T result = value;
  if (source >= 0 && source < 32 && warp + source < lanes.size()) memcpy(&result, &lanes[warp + source], sizeof(T));
  wait(AT_WARP);
  return result;
}
}  // namespace emulated

inline void __syncthreads() { emulated::wait(emulated::AT_BLOCK); }
inline void __syncwarp(unsigned = 0) { emulated::wait(emulated::AT_WARP); }
inline unsigned __activemask() { return 0xffffffffu; }
template <typename T> T __shfl_sync(unsigned, T value, int lane, int width = 32) {
  return emulated::exchange(value, int(emulated::current % 32) / width * width + lane);
}
template <typename T> T __shfl_down_sync(unsigned, T value, int delta, int width = 32) {
  int lane = emulated::current % 32;
  return emulated::exchange(value, lane % width + delta < width ? lane + delta : lane);
}
template <typename T> T __ldg(const T* p) { return *p; }
inline float __expf(float x) { return expf(x); }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
template <typename To, typename From> To bits_as(From value) { To to; memcpy(&to, &value, sizeof(To)); return to; }
inline int __float_as_int(float x) { return bits_as<int>(x); }
inline float __int_as_float(int x) { return bits_as<float>(x); }
inline unsigned __float_as_uint(float x) { return bits_as<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return bits_as<float>(x); }
inline long long __double_as_longlong(double x) { return bits_as<long long>(x); }
inline double __longlong_as_double(long long x) { return bits_as<double>(x); }

// Four products of bytes, added modulo 2^32. CUDA has no overload for a signed and an unsigned operand.
template <typename Byte, typename Word> Word dot_of_bytes(Word a, Word b, Word sum) {
  uint32_t total = sum;
  for (int i = 0; i < 4; ++i) total += uint32_t(int(Byte(a >> 8 * i)) * int(Byte(b >> 8 * i)));
  return Word(total);
}
inline int __dp4a(int a, int b, int sum) { return dot_of_bytes<int8_t>(a, b, sum); }
inline unsigned __dp4a(unsigned a, unsigned b, unsigned sum) { return dot_of_bytes<uint8_t>(a, b, sum); }

#include "tensor_cores_on_cpu.h"

// Runs a kernel; returns 1 if the threads of a block met at different barriers, 2 if a matrix was not aligned.
inline int launch(void (*kernel)(void**), void** arguments, const unsigned* grid, const unsigned* block) {
  emulated::body = kernel;
  emulated::arguments = arguments;
  emulated::diverged = emulated::misaligned = 0;
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  emulated::fibers.resize(size_t(block[0]) * block[1] * block[2]);
  emulated::lanes.assign(emulated::fibers.size(), 0);
  for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x) emulated::run_block();
  std::vector<emulated::Fiber>().swap(emulated::fibers);  // every library that is loaded would keep its stacks
  return emulated::diverged ? 1 : emulated::misaligned ? 2 : 0;
}
