// Functions of a float that several kernels take. None branches: a branch would keep one element's latency
// from the next one's.
#pragma once

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/mma.cuh"

namespace wedge::cu {

inline constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// 1 / (1 + e^-x), off by four units in the last place at most, and 0 where e^-x is infinite or next to it.
__device__ inline float sigmoid(float x) {
  return __fdividef(1.0f, 1.0f + expf(-x));
}

// sum / n with 1 / n at hand, as a division rounds it but for ties: of equal numbers the mean is what they
// are.
__device__ inline float mean_of(float sum, float n, float inverse) {
  const float mean = sum * inverse;
  return fmaf(fmaf(-mean, n, sum), inverse, mean);
}

// The gate's alpha h + (1 - alpha) g: one expression, since backward makes again what forward normalised.
// (g + alpha (h - g) would lose an h that is small beside g.)
__device__ inline float blend(float alpha, float h, float g) {
  return fmaf(alpha, h, (1.0f - alpha) * g);
}

// Φ(x) = ½ (1 + erf(x/√2)) and φ(x) = e^(-x²/2) / √(2π), the Gaussian distribution function and its density:
// gelu(x) = x Φ(x), gelu'(x) = Φ(x) + x φ(x).
inline constexpr float kFarOut = 100;  // φ is 0 there, and so it is beyond, where x may be infinite
__device__ inline float gaussian_cdf(float x) {
  return 0.5f * (1.0f + erff(x * 0.70710678118654752f));
}
inline constexpr float kGaussianPeak = 0.39894228040143268f;  // 1 / √(2π)
// e^(-x²/2)
__device__ inline float gaussian_exponential(float x) {
  return exp2_approx(-0.72134752044448170f * x * x);
}
// x φ(x)
__device__ inline float gaussian_moment(float x) {
  return fminf(fmaxf(x, -kFarOut), kFarOut) * (kGaussianPeak * gaussian_exponential(x));
}

}  // namespace wedge::cu
