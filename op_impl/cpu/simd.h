// Vectors of the instruction set that the including file is compiled for.
//
// Only kernels.cc includes this file. It is compiled several times with different flags, so
// everything lives in a namespace of its own and no template of the standard library is
// used: the linker would keep one copy for all processors (tests/native/test_native_symbols.py).
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "half.h"

#if defined(__AVX512F__)
#define BN3D_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define BN3D_VECTOR_BYTES 32
#else
#define BN3D_VECTOR_BYTES 16
#endif

namespace bn3d {
namespace BN3D_ISA {

template <typename F, int kCount>
struct Lanes {
  typedef F type __attribute__((vector_size(kCount * sizeof(F))));
};

template <typename F>
constexpr int kLanes = BN3D_VECTOR_BYTES / sizeof(F);

template <typename F>
using Vector = typename Lanes<F, kLanes<F>>::type;

// Arithmetic type of an element type.
template <typename T>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
template <typename T>
using Compute = typename ComputeOf<T>::type;

// An element in its arithmetic type.
BN3D_INLINE float element(float value) { return value; }
BN3D_INLINE double element(double value) { return value; }
BN3D_INLINE float element(Half value) { return to_float(value); }
BN3D_INLINE float element(BFloat16 value) { return to_float(value); }

// Where an element has 16 bits, a vector of them is half as long as the floats it holds.
typedef uint16_t HalfBits __attribute__((vector_size(BN3D_VECTOR_BYTES / 2)));
typedef uint32_t FloatBits __attribute__((vector_size(BN3D_VECTOR_BYTES)));

template <typename T, typename F = Compute<T>>
BN3D_INLINE Vector<F> load(const T* p) {
  Vector<F> v;
  memcpy(&v, p, sizeof v);
  return v;
}

template <>
BN3D_INLINE Vector<float> load(const Half* p) {
#if defined(__AVX512F__)
  return (Vector<float>)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
  return (Vector<float>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  Vector<float> v;
  for (int i = 0; i < kLanes<float>; ++i) v[i] = to_float(p[i]);
  return v;
#endif
}

template <>
BN3D_INLINE Vector<float> load(const BFloat16* p) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return (Vector<float>)_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16);
#else
  HalfBits bits;
  memcpy(&bits, p, sizeof bits);
  return (Vector<float>)(__builtin_convertvector(bits, FloatBits) << 16);
#endif
}

// The first `count` elements of a vector; the other lanes are 0.
template <typename T>
BN3D_INLINE Vector<Compute<T>> load_part(const T* p, int64_t count) {
  T part[kLanes<Compute<T>>] = {};
  memcpy(part, p, count * sizeof(T));
  return load(part);
}

// A full vector or the first lanes of one.
template <typename T>
BN3D_INLINE Vector<Compute<T>> load_lanes(const T* p, int64_t lanes) {
  return lanes == kLanes<Compute<T>> ? load(p) : load_part(p, lanes);
}

// A scalar in the arithmetic type; a NaN without a payload.
template <typename F>
BN3D_INLINE F number(double value) {
  return value == value ? static_cast<F>(value) : static_cast<F>(__builtin_nan(""));
}

// The same scalar in all lanes.
template <typename F>
BN3D_INLINE Vector<F> all(double value) {
  return number<F>(value) - Vector<F>{};  // -0 stays
}

// x - mean for a mean in double: the first subtraction is exact near the mean, the second
// brings in the digits of it that F cannot hold, where there are any (an infinite mean has none).
template <typename F>
struct Centered {
  Vector<F> high, low;
  BN3D_INLINE explicit Centered(double mean) : high(all<F>(mean)) {
    const double rest = mean - number<F>(mean);
    low = all<F>(rest == rest ? rest : 0);
  }
  BN3D_INLINE Vector<F> operator()(Vector<F> x) const { return (x - high) - low; }
};

// Asks for what follows `count` elements at p, some lines later: the processor's own prefetching
// leaves a quarter of the memory's speed unused. What is read for the last time is not to stay in
// the caches, where it would take the place of what is read again. Past a volume's end it does no
// harm.
template <bool kLastTime, typename T>
BN3D_INLINE void fetch_ahead(const T* p, int count) {
  constexpr int kAhead = kLastTime ? 1024 : 2048, kLine = 64, kLocality = kLastTime ? 0 : 3;
  const char* const ahead = reinterpret_cast<const char*>(p) + kAhead;
  for (int i = 0; i < count * static_cast<int>(sizeof(T)); i += kLine) {
    __builtin_prefetch(ahead + i, 0, kLocality);
  }
}

// The lanes of a vector in double, in their order.
BN3D_INLINE void widen(Vector<float> v, Vector<double>* to) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  // The compiler's own halves go through memory.
  to[0] = (Vector<double>)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v));
  to[1] = (Vector<double>)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1));
#else
  typedef float HalfVector __attribute__((vector_size(BN3D_VECTOR_BYTES / 2)));
  HalfVector halves[2];
  memcpy(halves, &v, sizeof v);
  to[0] = __builtin_convertvector(halves[0], Vector<double>);
  to[1] = __builtin_convertvector(halves[1], Vector<double>);
#endif
}

BN3D_INLINE void widen(Vector<double> v, Vector<double>* to) { *to = v; }

// What is to be written for a vector, in the element type of `to`.
BN3D_INLINE Vector<float> pack(Vector<float> v, const float* /*to*/) { return v; }

BN3D_INLINE Vector<double> pack(Vector<double> v, const double* /*to*/) { return v; }

BN3D_INLINE HalfBits pack(Vector<float> v, const Half* /*to*/) {
#if defined(__AVX512F__)
  return (HalfBits)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
  return (HalfBits)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
#else
  HalfBits bits;
  for (int i = 0; i < kLanes<float>; ++i) bits[i] = to_half(v[i]).bits;
  return bits;
#endif
}

// To nearest even. No carry turns a NaN into a number: those of bfloat16 elements and of
// arithmetic have no digits below bfloat16's, and scalars come from `number`.
BN3D_INLINE HalfBits pack(Vector<float> v, const BFloat16* /*to*/) {
  const FloatBits u = (FloatBits)v;
  const FloatBits halves = (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
#if defined(__AVX2__) && !defined(__AVX512F__)
  // The compiler's own narrowing goes lane by lane.
  const __m256i packed = _mm256_packus_epi32((__m256i)halves, (__m256i)halves);
  return (HalfBits)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
#else
  return __builtin_convertvector(halves, HalfBits);
#endif
}

// Writes past the caches, where the processor has vectors of that size; the address must be
// aligned to it.
template <typename V>
BN3D_INLINE void stream(void* p, V v) {
#if defined(__AVX512F__)
  if constexpr (sizeof v == 64) return _mm512_stream_si512(static_cast<__m512i*>(p), (__m512i)v);
#endif
#if defined(__AVX2__)
  if constexpr (sizeof v == 32) return _mm256_stream_si256(static_cast<__m256i*>(p), (__m256i)v);
#endif
#if defined(__x86_64__)
  if constexpr (sizeof v == 16) return _mm_stream_si128(static_cast<__m128i*>(p), (__m128i)v);
#endif
  memcpy(p, &v, sizeof v);
}

BN3D_INLINE void stream_fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace BN3D_ISA
}  // namespace bn3d
