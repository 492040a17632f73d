// The library's version and its few macros. Every other header includes this one first.
#pragma once

#define KVRING_VERSION_MAJOR 0
#define KVRING_VERSION_MINOR 1
#define KVRING_VERSION_PATCH 0

// A function that runs on the host and, under nvcc, on the device too.
#if defined(__CUDACC__)
#define KVRING_HD __host__ __device__
#else
#define KVRING_HD
#endif

namespace kvring {

struct Version {
  int major, minor, patch;
};
inline constexpr Version version{KVRING_VERSION_MAJOR, KVRING_VERSION_MINOR, KVRING_VERSION_PATCH};

}  // namespace kvring
