// kvring for nvcc: the caches and kernels, on host and GPU.
#pragma once

#include "kvring/backend_cuda.cuh"
#include "kvring/kernels/activation.hpp"
#include "kvring/kernels/embed.hpp"
#include "kvring/kernels/launch_cuda.cuh"
#include "kvring/kernels/norm.hpp"
#include "kvring/kernels/rope.hpp"
#include "kvring/kernels/rows.hpp"
#include "kvring/kvring.hpp"
