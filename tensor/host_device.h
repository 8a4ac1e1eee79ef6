// A function that kernels of a GPU call too.
#pragma once

#if defined(__CUDACC__)
#define WEDGE_HOST_DEVICE __host__ __device__
#else
#define WEDGE_HOST_DEVICE
#endif
