// Gemm: y [rows, out] = x [rows, in] w^T on tensor cores by cuBLASLt, such that a row's bits do not
// depend on how many rows there are.
#pragma once

#include <cublasLt.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "kvring/backend_cuda.cuh"
#include "kvring/element.hpp"
#include "kvring/error.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// A weight matrix w [out, in], what y is made of, and the most rows that come at once.
struct GemmShape {
  std::int64_t out = 0, in = 0;
  bool f32_out = false;
  std::int64_t most_rows = 1;
};

namespace detail {

inline void check_cublas_lt(cublasStatus_t status, const char* call) {
  require(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt: ", call, ": ",
          cublasLtGetStatusString(status));
}

template <class T>
inline constexpr cudaDataType_t cuda_type = CUDA_R_32F;
template <>
inline constexpr cudaDataType_t cuda_type<bf16> = CUDA_R_16BF;
template <>
inline constexpr cudaDataType_t cuda_type<f16> = CUDA_R_16F;

/// What cuBLASLt wants to know of a product: column-major, so y^T [out, rows] = w [out, in] x^T.
struct GemmProblem {
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t w, x, y;

  GemmProblem(const GemmShape& shape, std::int64_t rows, cudaDataType_t type) {
    const auto out = static_cast<std::uint64_t>(shape.out),
               in = static_cast<std::uint64_t>(shape.in);
    const auto count = static_cast<std::uint64_t>(rows);
    check_cublas_lt(cublasLtMatmulDescInit(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "descriptor");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check_cublas_lt(cublasLtMatmulDescSetAttribute(&product, CUBLASLT_MATMUL_DESC_TRANSA,
                                                   &transposed, sizeof transposed),
                    "transposition");
    check_cublas_lt(cublasLtMatrixLayoutInit(&w, type, in, out, shape.in), "weights");
    check_cublas_lt(cublasLtMatrixLayoutInit(&x, type, in, count, shape.in), "input");
    check_cublas_lt(
        cublasLtMatrixLayoutInit(&y, shape.f32_out ? CUDA_R_32F : type, out, count, shape.out),
        "output");
  }
};

}  // namespace detail

/// The algorithms of some shapes, looked up when it is made; a product then only starts a kernel.
///
/// Kernels that split the sum over `in` are refused, and there is no workspace to add parts in.
/// What remains has been seen to add in the same order whatever its tile, which is no promise of
/// cuBLAS: test_gemms (gemm_test_cuda.cuh) tries it on the machine at hand.
template <class T>
class Gemm {
  static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16>);

 public:
  /// `workspace` bytes, other than 0, are for tests: algorithms that split sums are then let in.
  Gemm(const Cuda& backend, std::span<const GemmShape> shapes, std::size_t workspace = 0)
      : handle_(make_handle()), workspace_(backend, static_cast<std::int64_t>(workspace)) {
    for (const GemmShape& shape : shapes) add(shape);
  }

  const auto& shapes() const { return shapes_; }

  /// From now on a shape is multiplied by one algorithm, whatever the rows. False if cuBLASLt has
  /// none that takes all of them.
  bool use_one_algorithm(const GemmShape& shape) {
    Algorithms& algorithms = find(shape.out, shape.in, shape.f32_out);
    for (auto chosen = algorithms.rbegin(); chosen != algorithms.rend(); ++chosen) {
      if (!takes_all(*chosen, shape)) continue;
      const cublasLtMatmulAlgo_t algorithm = *chosen;
      algorithms.assign(algorithms.size(), algorithm);
      return true;
    }
    return false;
  }

  /// x and w are aligned to 16 bytes. Ordered on the stream; returns at once.
  template <class Out>
  void operator()(const Cuda& backend, const T* x, std::int64_t rows, const T* w, std::int64_t out,
                  std::int64_t in, Out* y) const {
    static_assert(std::is_same_v<Out, float> || std::is_same_v<Out, T>);
    const GemmShape shape{out, in, std::is_same_v<Out, float>, rows};
    const Algorithms& algorithms = find(out, in, shape.f32_out);
    const std::size_t bucket = bucket_of(rows);
    require(bucket < algorithms.size(), "a product of ", rows, " rows, planned for ",
            rows_of(algorithms.size() - 1));
    detail::GemmProblem problem(shape, rows, detail::cuda_type<T>);
    const float one = 1, zero = 0;
    detail::check_cublas_lt(
        cublasLtMatmul(handle_.get(), &problem.product, &one, w, &problem.w, x, &problem.x, &zero,
                       y, &problem.y, y, &problem.y, &algorithms[bucket],
                       const_cast<std::byte*>(workspace_.data()), workspace_.bytes(),
                       backend.stream),
        "product");
  }

 private:
  struct Destroy {
    void operator()(cublasLtContext* handle) const { cublasLtDestroy(handle); }
  };
  using Handle = std::unique_ptr<cublasLtContext, Destroy>;
  using Algorithms = std::vector<cublasLtMatmulAlgo_t>;  // [buckets]
  using Key = std::array<std::int64_t, 3>;

  static Handle make_handle() {
    cublasLtHandle_t handle = nullptr;
    detail::check_cublas_lt(cublasLtCreate(&handle), "create");
    return Handle(handle);
  }

  /// Up to 16, 32, 64, 128, 256 rows, then 128 more each.
  static std::size_t bucket_of(std::int64_t rows) {
    if (rows > 128) return static_cast<std::size_t>(2 + ceil_div(rows, 128));
    return rows > 64 ? 3 : rows > 32 ? 2 : rows > 16 ? 1 : 0;
  }
  static std::int64_t rows_of(std::size_t bucket) {
    const auto b = static_cast<std::int64_t>(bucket);
    return b < 4 ? 16 << b : (b - 2) * 128;
  }

  void add(const GemmShape& shape) {
    require(shape.in % 8 == 0 && shape.out % 8 == 0, "a product with weights of ", shape.out, " x ",
            shape.in, ": both must be multiples of 8, so that rows are aligned to 16 bytes");
    Algorithms& algorithms = algorithms_[{shape.out, shape.in, shape.f32_out}];
    if (algorithms.empty()) shapes_.push_back(shape);
    for (std::size_t b = algorithms.size(); b <= bucket_of(shape.most_rows); ++b) {
      algorithms.push_back(query(shape, rows_of(b)));
    }
    for (GemmShape& known : shapes_) {
      if (known.out == shape.out && known.in == shape.in && known.f32_out == shape.f32_out) {
        known.most_rows = larger(known.most_rows, shape.most_rows);
      }
    }
  }

  /// The best algorithm for so many rows that sums in one piece.
  cublasLtMatmulAlgo_t query(const GemmShape& shape, std::int64_t rows) const {
    detail::GemmProblem problem(shape, rows, detail::cuda_type<T>);
    cublasLtMatmulPreferenceOpaque_t preference;
    detail::check_cublas_lt(cublasLtMatmulPreferenceInit(&preference), "preference");
    const std::uint64_t workspace = workspace_.bytes();
    detail::check_cublas_lt(
        cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &workspace, sizeof workspace),
        "workspace");
    const std::uint32_t alignment = 16;
    for (const auto of :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      detail::check_cublas_lt(
          cublasLtMatmulPreferenceSetAttribute(&preference, of, &alignment, sizeof alignment),
          "alignment");
    }
    std::array<cublasLtMatmulHeuristicResult_t, 8> found{};
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_.get(), &problem.product, &problem.w, &problem.x, &problem.y, &problem.y,
        &preference, static_cast<int>(found.size()), found.data(), &count);
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < count; ++i) {
      const auto& result = found[static_cast<std::size_t>(i)];
      if (result.state != CUBLAS_STATUS_SUCCESS) continue;
      if (workspace > 0 || sums_in_one_piece(result.algo)) return result.algo;
    }
    fail("cuBLASLt has no product of ", rows, " rows with weights of ", shape.out, " x ", shape.in,
         " that sums in one piece without a workspace (", count, " algorithms were offered)");
  }

  static bool sums_in_one_piece(const cublasLtMatmulAlgo_t& algorithm) {
    std::int32_t splits = 0;
    std::uint32_t scheme = 0;
    const auto read = [&](cublasLtMatmulAlgoConfigAttributes_t what, auto& value) {
      return cublasLtMatmulAlgoConfigGetAttribute(&algorithm, what, &value, sizeof value,
                                                  nullptr) == CUBLAS_STATUS_SUCCESS;
    };
    return read(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, splits) &&
           read(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, scheme) && splits <= 1 && scheme == 0;
  }

  bool takes_all(const cublasLtMatmulAlgo_t& algorithm, const GemmShape& shape) const {
    for (std::size_t b = 0; b <= bucket_of(shape.most_rows); ++b) {
      for (const std::int64_t rows : {b == 0 ? 1 : rows_of(b - 1) + 1, rows_of(b)}) {
        detail::GemmProblem problem(shape, rows, detail::cuda_type<T>);
        cublasLtMatmulHeuristicResult_t result{};
        if (cublasLtMatmulAlgoCheck(handle_.get(), &problem.product, &problem.w, &problem.x,
                                    &problem.y, &problem.y, &algorithm,
                                    &result) != CUBLAS_STATUS_SUCCESS ||
            result.workspaceSize > workspace_.bytes()) {
          return false;
        }
      }
    }
    return true;
  }

  Algorithms& find(std::int64_t out, std::int64_t in, bool f32_out) {
    const auto found = algorithms_.find({out, in, f32_out});
    require(found != algorithms_.end(), "a product with weights of ", out, " x ", in,
            " that was not planned");
    return found->second;
  }
  const Algorithms& find(std::int64_t out, std::int64_t in, bool f32_out) const {
    return const_cast<Gemm*>(this)->find(out, in, f32_out);
  }

  Handle handle_;
  Buffer<std::byte, Cuda> workspace_;
  std::vector<GemmShape> shapes_;
  std::map<Key, Algorithms> algorithms_;
};

}  // namespace kvring
