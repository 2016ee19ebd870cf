// The 16-bit floating-point types and their conversions, rounding to nearest even.
//
// Branch-free, so that a loop over them vectorises.
#pragma once

#include <cstdint>
#include <cstring>

#define BN3D_INLINE inline __attribute__((always_inline))
#define BN3D_INLINE_LAMBDA __attribute__((always_inline))

namespace bn3d {
namespace BN3D_ISA {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

BN3D_INLINE uint32_t bits_of(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  return u;
}

BN3D_INLINE float float_of(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

// IEEE half to float: exponent and mantissa move into place and a multiplication by 2^112
// corrects the bias, which normalises subnormals as well; Inf and NaN keep a full exponent.
BN3D_INLINE float to_float(Half h) {
  const uint32_t magnitude = static_cast<uint32_t>(h.bits & 0x7fff) << 13;
  const uint32_t sign = static_cast<uint32_t>(h.bits & 0x8000) << 16;
  const uint32_t finite = bits_of(float_of(magnitude) * 0x1p112f);
  const uint32_t special = magnitude | 0x7f800000u;
  return float_of((magnitude >= (0x1fu << 23) ? special : finite) | sign);
}

// Float to IEEE half, to nearest even. Adding 0.5 aligns a result that is subnormal to the last
// bits of the mantissa, so the addition itself rounds it.
BN3D_INLINE Half to_half(float f) {
  const uint32_t u = bits_of(f);
  const uint32_t sign = (u >> 16) & 0x8000u;
  const uint32_t magnitude = u & 0x7fffffffu;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1)) >> 13;
  const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  const uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x47800000u ? special : half;
  return {static_cast<uint16_t>(half | sign)};
}

BN3D_INLINE float to_float(BFloat16 b) { return float_of(static_cast<uint32_t>(b.bits) << 16); }

// Float to bfloat16, to nearest even; a NaN stays one even if its payload was in the low bits.
BN3D_INLINE BFloat16 to_bfloat16(float f) {
  const uint32_t u = bits_of(f);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
  const uint32_t quiet = (u >> 16) | 0x40u;
  const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
  return {static_cast<uint16_t>(nan ? quiet : rounded)};
}

}  // namespace BN3D_ISA
}  // namespace bn3d
