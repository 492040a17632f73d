// Linear and Table on the host: Eigen's products, called so that a row of the result has the same
// bits whatever other rows are computed with it.
#pragma once

// Every product here runs inside one thread of `for_each`. Were Eigen to split one among threads,
// it would cut the sum over `in` elsewhere, and bits would depend on the number of rows.
#if !defined(EIGEN_DONT_PARALLELIZE)
#define EIGEN_DONT_PARALLELIZE
#endif

#include <Eigen/Core>
#include <concepts>
#include <cstdint>
#include <vector>

#include "kvring/buffer.hpp"
#include "kvring/kernels/launch.hpp"
#include "kvring/model/linear.hpp"
#include "kvring/model/matrix.hpp"
#include "kvring/scratch.hpp"
#include "kvring/units.hpp"

namespace kvring {

namespace detail {

using ColumnMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Strided = Eigen::OuterStride<>;

}  // namespace detail

/// Weights as f32, cut into slices of `slice` outputs, each [in, outputs]: Eigen packs them by
/// plain copies, and a decoded token, which has to read them all, reads one run of memory a slice.
template <class B>
requires std::derived_from<B, Host>
class Linear<B> {
 public:
  Linear() = default;
  Linear(B backend, const Matrix& matrix)
      : in_(matrix.in), out_(matrix.out), weights_(backend, matrix.in * matrix.out) {
    constexpr std::int64_t block = 16;  // rows of the matrix: a cache line of each column
    static_assert(slice % block == 0);
    for_each(backend, ceil_div(out_, block), [&](std::int64_t i) {
      const std::int64_t begin = i * block, end = smaller(out_, begin + block);
      std::vector<float> rows(static_cast<std::size_t>(block * in_));
      for (std::int64_t o = begin; o < end; ++o) {
        matrix.read_row(o, rows.data() + (o - begin) * in_);
      }
      const std::int64_t first = begin / slice * slice, width = width_from(first);
      float* to = weights_.data() + first * in_ + (begin - first);
      for (std::int64_t c = 0; c < in_; ++c) {
        for (std::int64_t o = 0; o < end - begin; ++o) {
          to[c * width + o] = rows[static_cast<std::size_t>(o * in_ + c)];
        }
      }
    });
  }

  void operator()(const B& backend, const float* x, std::int64_t rows, float* y) const {
    using namespace detail;
    constexpr std::int64_t block = 1024;  // rows of a task
    const std::int64_t padded = round_up(rows, row_group), slices = ceil_div(out_, slice);
    for_each(backend, slices * ceil_div(padded, block), [&](std::int64_t task) {
      const std::int64_t first = task / slices * block, count = smaller(block, padded - first);
      const std::int64_t begin = task % slices * slice, width = width_from(begin);
      const Eigen::Map<const ColumnMajor> w(weights_.data() + begin * in_, width, in_);
      const Eigen::Map<const ColumnMajor> inputs(x + first * in_, in_, count);
      Eigen::Map<ColumnMajor, 0, Strided> outputs(y + first * out_ + begin, width, count,
                                                  Strided(out_));
      outputs.noalias() = w * inputs;
    });
  }

 private:
  static constexpr std::int64_t slice = 192;  // outputs of a task: four of Eigen's widest panels
  std::int64_t width_from(std::int64_t begin) const { return smaller(slice, out_ - begin); }

  std::int64_t in_ = 0, out_ = 0;
  Buffer<float, B> weights_;  // [in, slice] for each slice, the last one narrower
};

/// Rows stay as the file holds them and are widened as they are used: reading a quarter of the
/// bytes is faster than reading f32, and the vocabulary is the largest matrix of a small model. The
/// memory behind the Matrix must outlive the Table.
template <std::derived_from<Host> B>
class Table<B> {
 public:
  Table() = default;
  Table(B, const Matrix& matrix) : matrix_(matrix) {}

  std::int64_t vocabulary() const { return matrix_.out; }

  void embed(const B& backend, const std::int32_t* ids, std::int64_t rows, float scale,
             float* x) const {
    for_each(backend, rows, [&](std::int64_t row) {
      float* values = x + row * matrix_.in;
      matrix_.read_row(ids[row], values);
      for (std::int64_t i = 0; i < matrix_.in; ++i) values[i] *= scale;
    });
  }

  /// Logits of one row: what decoding needs, bound by reading the table.
  void logits(const B& backend, const float* x, float* y) const {
    logits_of_each(backend, x, 1, y);
  }

  /// Logits of a few rows, each with the bits that it has alone: what verifying drafts needs. The
  /// table is widened once for all of them.
  void logits_of_each(const B& backend, const float* x, std::int64_t rows, float* y) const {
    in_blocks(backend, 16, [&](const auto& w, std::int64_t begin) {
      for (std::int64_t row = 0; row < rows; ++row) {
        const Eigen::Map<const Eigen::VectorXf> input(x + row * matrix_.in, matrix_.in);
        Eigen::Map<Eigen::VectorXf>(y + row * matrix_.out + begin, w.rows()).noalias() = w * input;
      }
    });
  }

  /// Logits of many rows: what scoring needs, bound by arithmetic. Sums run in another order than
  /// for one row.
  void logits(const B& backend, const float* x, std::int64_t rows, float* y) const {
    using namespace detail;
    in_blocks(backend, 192, [&](const auto& w, std::int64_t begin) {
      const std::int64_t padded = round_up(rows, row_group);
      const Eigen::Map<const ColumnMajor> inputs(x, matrix_.in, padded);
      Eigen::Map<ColumnMajor, 0, Strided>(y + begin, w.rows(), padded, Strided(matrix_.out))
          .noalias() = w * inputs;
    });
  }

 private:
  /// f(rows of the table from `begin` on as a matrix, begin) for each block of `block` rows.
  template <class F>
  void in_blocks(const B& backend, std::int64_t block, F f) const {
    for_each(backend, ceil_div(matrix_.out, block), [&](std::int64_t task) {
      const std::int64_t begin = task * block, count = smaller(block, matrix_.out - begin);
      thread_local std::vector<float> widened;
      widened.resize(static_cast<std::size_t>(count * matrix_.in));
      for (std::int64_t i = 0; i < count; ++i) {
        matrix_.read_row(begin + i, widened.data() + i * matrix_.in);
      }
      f(Eigen::Map<const detail::RowMajor>(widened.data(), count, matrix_.in), begin);
    });
  }

  Matrix matrix_;
};

}  // namespace kvring
