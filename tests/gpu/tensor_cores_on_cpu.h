// Half precision (where g++ has it) and `nvcuda::wmma` for `cuda_on_cpu.h`. Every lane holds whole fragments instead of its share of them, so
// all lanes load, compute and store the same. They meet before each access to memory, as `.sync` demands.
#pragma once
#ifdef __FLT16_MAX__
typedef _Float16 half;
inline half __float2half_rn(float x) { return half(x); }
inline half __float2half(float x) { return half(x); }
inline float __half2float(half x) { return float(x); }
#endif  // __FLT16_MAX__

namespace nvcuda {
namespace wmma {
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

template <typename Use, int M, int N, int K, typename T, typename Layout = void> struct fragment {
  static constexpr int rows = std::is_same<Use, matrix_b>::value ? K : M;
  static constexpr int columns = std::is_same<Use, matrix_a>::value ? K : N;
  T value[rows][columns];
};

// Rows in memory must be a multiple of 16 bytes apart, and a matrix must begin at a multiple of 32 bytes.
template <typename T> void check_place(const T* p, unsigned stride) {
  if (reinterpret_cast<uintptr_t>(p) % 32 || stride * sizeof(T) % 16) emulated::misaligned = 1;
}
template <typename Use, int M, int N, int K, typename T, typename Layout, typename V>
void fill_fragment(fragment<Use, M, N, K, T, Layout>& f, V v) {
  for (auto& row : f.value)
    for (T& item : row) item = T(v);
}
template <typename Use, int M, int N, int K, typename T, typename Layout>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& f, const T* p, unsigned stride) {
  __syncwarp();
  check_place(p, stride);
  for (int i = 0; i < f.rows; ++i)
    for (int j = 0; j < f.columns; ++j)
      f.value[i][j] = std::is_same<Layout, row_major>::value ? p[i * stride + j] : p[j * stride + i];
}
inline void add(float& sum, float term) { sum += term; }
inline void add(int& sum, int term) { sum = int(unsigned(sum) + unsigned(term)); }
template <int M, int N, int K, typename T, typename A, typename B, typename S>
void mma_sync(fragment<accumulator, M, N, K, S>& d, const fragment<matrix_a, M, N, K, T, A>& a,
              const fragment<matrix_b, M, N, K, T, B>& b, const fragment<accumulator, M, N, K, S>& c) {
  fragment<accumulator, M, N, K, S> sum = c;
  for (int i = 0; i < M; ++i)
    for (int k = 0; k < K; ++k)
      for (int j = 0; j < N; ++j) add(sum.value[i][j], S(a.value[i][k]) * S(b.value[k][j]));
  d = sum;
}
template <int M, int N, int K, typename T>
void store_matrix_sync(T* p, const fragment<accumulator, M, N, K, T>& f, unsigned stride, layout_t layout) {
  __syncwarp();
  check_place(p, stride);
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < N; ++j) p[layout == mem_row_major ? i * stride + j : j * stride + i] = f.value[i][j];
}
}  // namespace wmma
}  // namespace nvcuda
