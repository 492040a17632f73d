// kvring for nvcc: the caches and kernels, on host and GPU.
#pragma once

#include "kvring/backend_cuda.cuh"
#include "kvring/kernels/activation.hpp"
#include "kvring/kernels/append_fused.cuh"
#include "kvring/kernels/append_rows.cuh"
#include "kvring/kernels/attend_cuda.cuh"
#include "kvring/kernels/attend_prefill.cuh"
#include "kvring/kernels/decode.cuh"
#include "kvring/kernels/embed.hpp"
#include "kvring/kernels/launch_cuda.cuh"
#include "kvring/kernels/norm.hpp"
#include "kvring/kernels/rope.hpp"
#include "kvring/kernels/rows.hpp"
#include "kvring/kernels/rows_cuda.cuh"
#include "kvring/kernels/sample_cuda.cuh"
#include "kvring/kernels/stage_rows.cuh"
#include "kvring/kvring.hpp"
