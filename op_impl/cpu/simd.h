// Vectors of the instruction set that the including file is compiled for.
//
// Only kernels.cc includes this file. It is compiled several times with different flags, so
// everything lives in a namespace of its own and no template of the standard library is
// used: the linker would keep one copy for all instruction sets.
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

template <typename F>
struct VectorOf {
  typedef F type __attribute__((vector_size(BN3D_VECTOR_BYTES)));
};
template <typename F>
using Vector = typename VectorOf<F>::type;

template <typename F>
constexpr int kLanes = BN3D_VECTOR_BYTES / sizeof(F);

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
  typedef uint16_t Bits __attribute__((vector_size(BN3D_VECTOR_BYTES / 2)));
  typedef uint32_t Wide __attribute__((vector_size(BN3D_VECTOR_BYTES)));
  Bits bits;
  memcpy(&bits, p, sizeof bits);
  return (Vector<float>)(__builtin_convertvector(bits, Wide) << 16);
}

// Bytes as wide as a vector of T's, to be written.
template <int kBytes>
struct Packed {
  alignas(kBytes) unsigned char bytes[kBytes];
};

template <typename T, typename F = Compute<T>>
BN3D_INLINE Packed<kLanes<F> * sizeof(T)> pack(Vector<F> v, const T*) {
  Packed<kLanes<F> * sizeof(T)> packed;
  memcpy(&packed, &v, sizeof v);
  return packed;
}

BN3D_INLINE Packed<BN3D_VECTOR_BYTES / 2> pack(Vector<float> v, const Half*) {
  Packed<BN3D_VECTOR_BYTES / 2> packed;
#if defined(__AVX512F__)
  const __m256i bits = _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT);
  memcpy(&packed, &bits, sizeof bits);
#elif defined(__F16C__)
  const __m128i bits = _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
  memcpy(&packed, &bits, sizeof bits);
#else
  Half halves[kLanes<float>];
  for (int i = 0; i < kLanes<float>; ++i) halves[i] = to_half(v[i]);
  memcpy(&packed, halves, sizeof halves);
#endif
  return packed;
}

BN3D_INLINE Packed<BN3D_VECTOR_BYTES / 2> pack(Vector<float> v, const BFloat16*) {
  typedef uint16_t Bits __attribute__((vector_size(BN3D_VECTOR_BYTES / 2)));
  typedef uint32_t Wide __attribute__((vector_size(BN3D_VECTOR_BYTES)));
  const Wide u = (Wide)v;
  const Wide rounded = (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
  const Wide nan = (Wide)((u & 0x7fffffffu) > 0x7f800000u);
  const Bits bits =
      __builtin_convertvector((nan & ((u >> 16) | 0x40u)) | (~nan & rounded), Bits);
  Packed<BN3D_VECTOR_BYTES / 2> packed;
  memcpy(&packed, &bits, sizeof bits);
  return packed;
}

// Writes past the caches; the address must be aligned to the packed size.
template <int kBytes>
BN3D_INLINE void stream(void* p, const Packed<kBytes>& v) {
#if defined(__AVX512F__)
  if constexpr (kBytes == 64) {
    _mm512_stream_si512(static_cast<__m512i*>(p), *reinterpret_cast<const __m512i*>(v.bytes));
    return;
  }
#endif
#if defined(__AVX2__)
  if constexpr (kBytes == 32) {
    _mm256_stream_si256(static_cast<__m256i*>(p), *reinterpret_cast<const __m256i*>(v.bytes));
    return;
  }
#endif
#if defined(__x86_64__)
  if constexpr (kBytes == 16) {
    _mm_stream_si128(static_cast<__m128i*>(p), *reinterpret_cast<const __m128i*>(v.bytes));
    return;
  }
#endif
  memcpy(p, v.bytes, kBytes);
}

BN3D_INLINE void stream_fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace BN3D_ISA
}  // namespace bn3d
