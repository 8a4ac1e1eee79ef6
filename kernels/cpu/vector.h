// Vectors of the width that the processor has, as GCC and clang write them.
#pragma once

#include <cstdint>

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace wedge::cpu {

#if defined(WEDGE_VECTOR_BYTES)  // another machine's size, for the tests
inline constexpr int kVectorBytes = WEDGE_VECTOR_BYTES;
#elif defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32;
#elif defined(__x86_64__)
inline constexpr int kVectorBytes = 32;  // in pairs where there is no AVX
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T>
struct Vector {
  typedef T Type __attribute__((vector_size(kVectorBytes)));
  // In memory, at any address: clang forgets an aligned() of the type itself on its way through a template.
  struct __attribute__((packed, may_alias)) Anywhere {
    Type v;
  };
};
template <class T>
[[gnu::always_inline]] inline auto& lanes(T* at) {
  return *reinterpret_cast<typename Vector<T>::Anywhere*>(at);
}
template <class T>
[[gnu::always_inline]] inline const auto& lanes(const T* at) {
  return *reinterpret_cast<const typename Vector<T>::Anywhere*>(at);
}

#if defined(__AVX__)
inline constexpr bool kCanStream = true;
#else
inline constexpr bool kCanStream = false;
#endif
// Writes a vector to memory without reading its lines of cache first, where the processor can; `at` is
// aligned as the vector is. Threads that read it later need finish_streaming() before they are told.
template <class V>
[[gnu::always_inline]] inline void stream(V* at, const V& v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == sizeof(__m512i))
    return _mm512_stream_si512(reinterpret_cast<__m512i*>(at), (__m512i)v);
#elif defined(__AVX__)
  if constexpr (sizeof(V) == sizeof(__m256i))
    return _mm256_stream_si256(reinterpret_cast<__m256i*>(at), (__m256i)v);
#endif
  *at = v;
}
inline void finish_streaming() {
#if defined(__AVX__)
  _mm_sfence();
#endif
}

}  // namespace wedge::cpu
