// Linear and Table on a GPU: weights as f32, products by cuBLAS in full f32.
#pragma once

#include <cublas_v2.h>

#include <cstdint>
#include <vector>

#include "kvring/buffer.hpp"
#include "kvring/kernels/embed.hpp"
#include "kvring/kernels/launch_cuda.cuh"
#include "kvring/model/linear.hpp"
#include "kvring/model/matrix.hpp"
#include "kvring/units.hpp"

namespace kvring {

namespace detail {

inline void check_cublas(cublasStatus_t status) {
  require(status == CUBLAS_STATUS_SUCCESS, "cuBLAS: ", cublasGetStatusString(status));
}

/// One handle for each host thread, as cuBLAS wants it.
class Cublas {
 public:
  static cublasHandle_t handle(const Cuda& backend) {
    thread_local Cublas cublas;
    check_cublas(cublasSetStream(cublas.handle_, backend.stream));
    return cublas.handle_;
  }
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

 private:
  Cublas() { check_cublas(cublasCreate(&handle_)); }
  ~Cublas() { cublasDestroy(handle_); }
  cublasHandle_t handle_ = nullptr;
};

/// A matrix, widened on the host and copied to the device in blocks of rows.
inline Buffer<float, Cuda> upload(const Cuda& backend, const Matrix& matrix) {
  Buffer<float, Cuda> weights(backend, matrix.out * matrix.in);
  constexpr std::int64_t block = 4096;
  std::vector<float> rows(static_cast<std::size_t>(smaller(block, matrix.out) * matrix.in));
  for (std::int64_t begin = 0; begin < matrix.out; begin += block) {
    const std::int64_t count = smaller(block, matrix.out - begin);
    for (std::int64_t i = 0; i < count; ++i) {
      matrix.read_row(begin + i, rows.data() + i * matrix.in);
    }
    backend.from_host(weights.data() + begin * matrix.in, rows.data(),
                      static_cast<std::size_t>(count * matrix.in) * sizeof(float));
  }
  return weights;
}

/// y [rows, out] = x [rows, in] w^T, with w [out, in].
inline void multiply(const Cuda& backend, const float* x, std::int64_t rows, const float* w,
                     std::int64_t out, std::int64_t in, float* y) {
  const float one = 1, zero = 0;
  check_cublas(cublasSgemm(Cublas::handle(backend), CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(out),
                           static_cast<int>(rows), static_cast<int>(in), &one, w,
                           static_cast<int>(in), x, static_cast<int>(in), &zero, y,
                           static_cast<int>(out)));
}

}  // namespace detail

template <>
class Linear<Cuda> {
 public:
  Linear() = default;
  Linear(Cuda backend, const Matrix& matrix)
      : in_(matrix.in), out_(matrix.out), weights_(detail::upload(backend, matrix)) {}

  void operator()(const Cuda& backend, const float* x, std::int64_t rows, float* y) const {
    detail::multiply(backend, x, rows, weights_.data(), out_, in_, y);
  }

 private:
  std::int64_t in_ = 0, out_ = 0;
  Buffer<float, Cuda> weights_;  // [out, in]
};

template <>
class Table<Cuda> {
 public:
  Table() = default;
  Table(Cuda backend, const Matrix& matrix)
      : vocabulary_(matrix.out), width_(matrix.in), rows_(detail::upload(backend, matrix)) {}

  std::int64_t vocabulary() const { return vocabulary_; }

  void embed(const Cuda& backend, const std::int32_t* ids, std::int64_t rows, float scale,
             float* x) const {
    for_each(backend, rows,
             Embed{.table = rows_.data(), .ids = ids, .x = x, .width = width_, .scale = scale});
  }

  void logits(const Cuda& backend, const float* x, float* y) const { logits(backend, x, 1, y); }
  void logits(const Cuda& backend, const float* x, std::int64_t rows, float* y) const {
    detail::multiply(backend, x, rows, rows_.data(), vocabulary_, width_, y);
  }

 private:
  std::int64_t vocabulary_ = 0, width_ = 0;
  Buffer<float, Cuda> rows_;  // [vocabulary, width]
};

}  // namespace kvring
