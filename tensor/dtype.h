// Element types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "tensor/host_device.h"

namespace wedge {

// bfloat16, storage only: the upper half of a float32. Conversion from float rounds to nearest even; NaN
// stays NaN.
struct BFloat16 {
  std::uint16_t bits = 0;

  BFloat16() = default;
  WEDGE_HOST_DEVICE explicit BFloat16(float value) {
#if defined(__CUDA_ARCH__)
    // One instruction for the eight below. Its NaN is always the same one.
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#else
    const auto u = __builtin_bit_cast(std::uint32_t, value);
    const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<std::uint16_t>(is_nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
#endif
  }
  WEDGE_HOST_DEVICE explicit operator float() const {
    return __builtin_bit_cast(float, std::uint32_t{bits} << 16);
  }
  WEDGE_HOST_DEVICE explicit operator double() const {
    return static_cast<float>(*this);
  }
};

// One element type to another; to and from BFloat16 by way of float.
template <class To, class From>
WEDGE_HOST_DEVICE To convert(From value) {
  if constexpr (std::is_same_v<From, BFloat16>)
    return convert<To>(static_cast<float>(value));
  else if constexpr (std::is_same_v<To, BFloat16>)
    return BFloat16(static_cast<float>(value));
  else
    return static_cast<To>(value);
}

enum class DType : std::uint8_t { f32, f64, bf16, i32, i64 };

// Bytes of one element.
constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::bf16:
      return 2;
    default:
      return 4;
  }
}

constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::f64:
      return "float64";
    case DType::bf16:
      return "bfloat16";
    case DType::i32:
      return "int32";
    default:
      return "int64";
  }
}

// Whether gradients can flow through tensors of this type.
constexpr bool is_floating(DType dtype) {
  return dtype <= DType::bf16;
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::i64;
};

template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

// Calls f with a value of the C++ type of `dtype`, for code that is written once for all types.
template <class F>
decltype(auto) visit_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::bf16:
      return f(BFloat16{});
    case DType::i32:
      return f(std::int32_t{});
    default:
      return f(std::int64_t{});
  }
}

}  // namespace wedge
