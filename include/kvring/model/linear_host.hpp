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
#include "kvring/units.hpp"

namespace kvring {

namespace detail {

using ColumnMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Strided = Eigen::OuterStride<>;

/// Eigen's kernel takes rows of x four at a time and sums a left-over row in another order, so rows
/// always come in fours.
inline constexpr std::int64_t row_group = 4;

}  // namespace detail

/// Weights as f32, [in, out]: Eigen packs them by plain copies.
template <std::derived_from<Host> B>
class Linear<B> {
 public:
  Linear() = default;
  Linear(B backend, const Matrix& matrix)
      : in_(matrix.in), out_(matrix.out), weights_(backend, matrix.in * matrix.out) {
    constexpr std::int64_t block = 16;  // rows of the matrix: a cache line of each column
    for_each(backend, ceil_div(out_, block), [&](std::int64_t i) {
      const std::int64_t begin = i * block, end = smaller(out_, begin + block);
      std::vector<float> rows(static_cast<std::size_t>(block * in_));
      for (std::int64_t o = begin; o < end; ++o) {
        matrix.read_row(o, rows.data() + (o - begin) * in_);
      }
      for (std::int64_t c = 0; c < in_; ++c) {
        for (std::int64_t o = begin; o < end; ++o) {
          weights_.data()[c * out_ + o] = rows[static_cast<std::size_t>((o - begin) * in_ + c)];
        }
      }
    });
  }

  void operator()(const B& backend, const float* x, std::int64_t rows, float* y) const {
    using namespace detail;
    constexpr std::int64_t slice = 192;   // outputs of a task: four of Eigen's widest panels
    constexpr std::int64_t block = 1024;  // rows of a task
    const std::int64_t padded = round_up(rows, row_group), slices = ceil_div(out_, slice);
    for_each(backend, slices * ceil_div(padded, block), [&](std::int64_t task) {
      const std::int64_t first = task / slices * block, count = smaller(block, padded - first);
      const std::int64_t begin = task % slices * slice, width = smaller(slice, out_ - begin);
      const Eigen::Map<const ColumnMajor, 0, Strided> w(weights_.data() + begin, width, in_,
                                                        Strided(out_));
      const Eigen::Map<const ColumnMajor> inputs(x + first * in_, in_, count);
      Eigen::Map<ColumnMajor, 0, Strided> outputs(y + first * out_ + begin, width, count,
                                                  Strided(out_));
      outputs.noalias() = w * inputs;
    });
  }

 private:
  std::int64_t in_ = 0, out_ = 0;
  Buffer<float, B> weights_;  // [in, out]
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

  void logits(const B& backend, const float* x, std::int64_t rows, float* y) const {
    using namespace detail;
    const std::int64_t block = rows == 1 ? 16 : 192;  // rows of the table that a task widens
    for_each(backend, ceil_div(matrix_.out, block), [&](std::int64_t task) {
      const std::int64_t begin = task * block, count = smaller(block, matrix_.out - begin);
      thread_local std::vector<float> widened;
      widened.resize(static_cast<std::size_t>(count * matrix_.in));
      for (std::int64_t i = 0; i < count; ++i) {
        matrix_.read_row(begin + i, widened.data() + i * matrix_.in);
      }
      const Eigen::Map<const RowMajor> w(widened.data(), count, matrix_.in);
      if (rows == 1) {
        const Eigen::Map<const Eigen::VectorXf> input(x, matrix_.in);
        Eigen::Map<Eigen::VectorXf>(y + begin, count).noalias() = w * input;
      } else {
        const Eigen::Map<const ColumnMajor> inputs(x, matrix_.in, rows);
        Eigen::Map<ColumnMajor, 0, Strided>(y + begin, count, rows, Strided(matrix_.out))
            .noalias() = w * inputs;
      }
    });
  }

 private:
  Matrix matrix_;
};

}  // namespace kvring
