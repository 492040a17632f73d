// The row kernels of the GPU's decoder, against double precision; and a row's bits do not depend on
// how many rows there are.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "device.cuh"
#include "kvring/kernels/rows_cuda.cuh"
#include "prompts.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

constexpr double u = 0x1p-24;  // half a unit in the last place of f32, relative

template <class T>
constexpr double rounding_of = std::is_same_v<T, float>  ? u
                               : std::is_same_v<T, bf16> ? 0x1p-8
                                                         : 0x1p-11;

template <class T>
std::vector<T> noise(std::int64_t count, std::uint64_t seed, float size) {
  Random random(seed);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) value = from_f32<T>(random.signed_unit() * size);
  return values;
}
template <class T>
std::vector<T> nans(std::int64_t count) {
  return std::vector<T>(static_cast<std::size_t>(count),
                        from_f32<T>(std::numeric_limits<float>::quiet_NaN()));
}

/// A result in double precision and how far f32 may be from it.
struct Right {
  std::vector<double> value, bound;
};

/// Elements out of bound after rounding to T, and elements past the end that are no longer NaN.
template <class T>
long wrong(const std::vector<T>& got, const Right& right) {
  long count = 0;
  for (std::size_t i = 0; i < right.value.size(); ++i) {
    const double error = right.bound[i];
    const double bound = error + rounding_of<T> * (std::fabs(right.value[i]) + error) +
                         (std::is_same_v<T, f16> ? 0x1p-25 : 0);
    count += !(std::fabs(to_f32(got[i]) - right.value[i]) <= bound);
  }
  for (std::size_t i = right.value.size(); i < got.size(); ++i) {
    count += !std::isnan(to_f32(got[i]));
  }
  return count;
}

/// x / rms(x) * weight. A thread sums 16 squares at most, then 5 sums of lanes and up to 32 of
/// warps, halved by the root; mean, epsilon, root and two products: 32 roundings.
Right normed(const std::vector<double>& x, const std::vector<float>& weight, std::int64_t width,
             double epsilon) {
  Right right{x, x};
  for (std::size_t row = 0; row < x.size(); row += static_cast<std::size_t>(width)) {
    double squares = 0;
    for (std::int64_t i = 0; i < width; ++i) squares += x[row + i] * x[row + i];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + epsilon);
    for (std::int64_t i = 0; i < width; ++i) {
      right.value[row + i] = x[row + i] * scale * weight[static_cast<std::size_t>(i)];
      right.bound[row + i] = 32 * u * std::fabs(right.value[row + i]);
    }
  }
  return right;
}

template <class T>
std::vector<double> as_doubles(const std::vector<T>& x) {
  std::vector<double> y;
  for (const T value : x) y.push_back(to_f32(value));
  return y;
}

constexpr float epsilon = 1e-6f;
constexpr std::int64_t widths[] = {4, 36, 640, 1152, 2560, 4096, 4100, 5376, 16384};

template <class T>
void norms(const Cuda& gpu, std::int64_t width) {
  CAPTURE(width);
  constexpr std::int64_t rows = 5;
  const auto x = noise<float>(rows * width, 1, 5), weight = noise<float>(width, 2, 2);
  const auto dx = to_device(gpu, x), dweight = to_device(gpu, weight);
  auto y = to_device(gpu, nans<T>((rows + 1) * width));
  norm_rows(gpu, dx.data(), dweight.data(), y.data(), rows, width, epsilon);
  CHECK(wrong(to_host(gpu, y), normed(as_doubles(x), weight, width, epsilon)) == 0);
}

template <class In, class T>
void added_norms(const Cuda& gpu, std::int64_t width, bool post, bool next, float scale) {
  CAPTURE(width);
  CAPTURE(post);
  CAPTURE(next);
  constexpr std::int64_t rows = 5;
  const auto added = noise<In>(rows * width, 3, 5);
  const auto residual = noise<float>(rows * width, 4, 20);
  const auto post_weight = noise<float>(width, 5, 2), next_weight = noise<float>(width, 6, 2);
  const auto dadded = to_device(gpu, added);
  const auto dpost = to_device(gpu, post_weight), dnext = to_device(gpu, next_weight);
  auto dresidual = to_device(gpu, residual);
  auto y = to_device(gpu, nans<T>((rows + 1) * width));
  add_norm_rows(gpu, dadded.data(), post ? dpost.data() : nullptr, dresidual.data(), scale,
                next ? dnext.data() : nullptr, y.data(), rows, width, epsilon);

  Right sum{as_doubles(added), std::vector<double>(added.size(), 0)};
  if (post) sum = normed(sum.value, post_weight, width, epsilon);
  for (std::size_t i = 0; i < added.size(); ++i) {
    // The sum rounds, and the product with the scale.
    sum.value[i] = (sum.value[i] + residual[i]) * scale;
    sum.bound[i] = sum.bound[i] * std::fabs(scale) + 2 * u * std::fabs(sum.value[i]);
  }
  const auto got = to_host(gpu, dresidual);
  CHECK(wrong(got, sum) == 0);
  // The norm is of the sum that was stored; without one y is that sum.
  const Right same{as_doubles(got), std::vector<double>(got.size(), 0)};
  CHECK(wrong(to_host(gpu, y),
              next ? normed(as_doubles(got), next_weight, width, epsilon) : same) == 0);
}

TEST_CASE_TEMPLATE("device: norms of rows", T, bf16, f16, float) {
  if (no_gpu("device: norms of rows")) return;
  const Stream stream;
  for (const std::int64_t width : widths) {
    norms<T>(stream.backend(), width);
    for (const bool post : {false, true}) {
      for (const bool next : {false, true}) {
        added_norms<T, T>(stream.backend(), width, post, next, 1);
        added_norms<float, T>(stream.backend(), width, post, next, 0.37f);
      }
    }
  }
}

TEST_CASE("device: rows too wide or uneven are refused with the limit") {
  const auto refused = [](std::int64_t width) {
    try {
      norm_rows<float>(Cuda{}, nullptr, nullptr, nullptr, 0, width, 0);
    } catch (const Error& error) {
      return std::string(error.what()).find("up to 16384") != std::string::npos;
    }
    return false;
  };
  CHECK(refused(0));
  CHECK(refused(6));
  CHECK(refused(16388));
}

template <class In, class T>
void bits(const Cuda& gpu, std::int64_t width) {
  CAPTURE(width);
  constexpr std::int64_t most = 257;
  const auto added = noise<In>(most * width, 7, 5), gate = noise<In>(most * width, 8, 5);
  const auto residual = noise<float>(most * width, 9, 20), weight = noise<float>(width, 10, 2);
  const auto dadded = to_device(gpu, added), dgate = to_device(gpu, gate);
  const auto dweight = to_device(gpu, weight);
  struct Results {
    std::vector<T> y, normed, gated;
    std::vector<float> residual;
  };
  const auto of = [&](std::int64_t first, std::int64_t rows) {
    const std::int64_t skip = first * width;
    auto sum = to_device(
        gpu, std::vector<float>(residual.begin() + skip, residual.begin() + skip + rows * width));
    auto y = to_device(gpu, nans<T>(rows * width)), again = to_device(gpu, nans<T>(rows * width));
    auto gated = to_device(gpu, nans<T>(rows * width));
    add_norm_rows(gpu, dadded.data() + skip, dweight.data(), sum.data(), 1.5f, dweight.data(),
                  y.data(), rows, width, epsilon);
    norm_rows(gpu, sum.data(), dweight.data(), again.data(), rows, width, epsilon);
    gate_rows<GeluTanh>(gpu, dgate.data() + skip, width, dadded.data() + skip, width, gated.data(),
                        rows, width);
    return Results{to_host(gpu, y), to_host(gpu, again), to_host(gpu, gated), to_host(gpu, sum)};
  };
  const Results all = of(0, most);
  // What add_norm_rows norms is what norm_rows would.
  CHECK(std::memcmp(all.y.data(), all.normed.data(), all.y.size() * sizeof(T)) == 0);
  const auto differs = [&](const Results& some, std::int64_t first, std::int64_t rows) {
    const std::size_t skip = static_cast<std::size_t>(first * width);
    const std::size_t count = static_cast<std::size_t>(rows * width);
    return std::memcmp(some.y.data(), all.y.data() + skip, count * sizeof(T)) != 0 ||
           std::memcmp(some.gated.data(), all.gated.data() + skip, count * sizeof(T)) != 0 ||
           std::memcmp(some.residual.data(), all.residual.data() + skip, count * 4) != 0;
  };
  for (const std::int64_t rows : {1, 2, 255, 256, 257}) {
    CAPTURE(rows);
    CHECK(!differs(of(0, rows), 0, rows));
    CHECK(!differs(of(most - rows, rows), most - rows, rows));
  }
}

TEST_CASE_TEMPLATE("device: a row is the same bits among any number of rows", T, bf16, f16, float) {
  if (no_gpu("device: a row is the same bits among any number of rows")) return;
  const Stream stream;
  bits<T, T>(stream.backend(), 640);
  bits<float, T>(stream.backend(), 2560);
  bits<T, T>(stream.backend(), 5376);
}

double silu(double x) { return x / (1 + std::exp(-x)); }
/// x (1 + tanh(y)) / 2, without the cancellation: x / (1 + e^(-2 y)).
double gelu(double x) {
  return x / (1 + std::exp(-2 * std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

template <class Activation, class In, class Up, class T>
void gates(const Cuda& gpu, double (*function)(double)) {
  constexpr std::int64_t rows = 5, width = 1032, stride = 2 * width, up_stride = width + 8;
  const auto gate = noise<In>(rows * stride, 11, 12);
  const auto up = noise<Up>(rows * up_stride, 12, 3);
  const auto dgate = to_device(gpu, gate);
  const auto dup = to_device(gpu, up);
  auto out = to_device(gpu, nans<T>((rows + 1) * width));
  gate_rows<Activation>(gpu, dgate.data(), stride, dup.data(), up_stride, out.data(), rows, width);
  Right right;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t i = 0; i < width; ++i) {
      const double x = to_f32(gate[static_cast<std::size_t>(row * stride + i)]);
      const double factor = to_f32(up[static_cast<std::size_t>(row * up_stride + i)]);
      right.value.push_back(function(x) * factor);
      // The argument of the exponential, of size 2 * 0.8 (|x| + 0.045 |x|^3) at most, has 8
      // roundings, those of its constants included; exp2 and the quotient are within 4u each; the
      // sum and the products round. A quotient below 2^-126 is 0.
      const double argument = 1.6 * (std::fabs(x) + 0.045 * std::fabs(x * x * x));
      right.bound.push_back((8 * argument + 12) * u * std::fabs(right.value.back()) +
                            0x1p-125 * std::fabs(x * factor));
    }
  }
  CHECK(wrong(to_host(gpu, out), right) == 0);
}

TEST_CASE_TEMPLATE("device: gates of rows", T, bf16, f16, float) {
  if (no_gpu("device: gates of rows")) return;
  const Stream stream;
  gates<GeluTanh, T, T, T>(stream.backend(), gelu);
  gates<Silu, T, T, T>(stream.backend(), silu);
  gates<GeluTanh, float, float, T>(stream.backend(), gelu);
  gates<Silu, T, float, T>(stream.backend(), silu);
}

TEST_CASE_TEMPLATE("device: embedding of rows", T, bf16, f16, float) {
  if (no_gpu("device: embedding of rows")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  for (const std::int64_t width : {4, 640, 2560}) {
    constexpr std::int64_t rows = 37, vocabulary = 50;
    const auto table = noise<T>(vocabulary * width, 13, 1);
    std::vector<std::int32_t> ids;
    for (std::int32_t row = 0; row < rows; ++row) ids.push_back(row * 7 % 50);
    const auto dtable = to_device(gpu, table);
    const auto dids = to_device(gpu, ids);
    auto x = to_device(gpu, nans<float>((rows + 1) * width));
    embed_rows(gpu, dtable.data(), dids.data(), rows, width, 25.3f, x.data());
    Right right;
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t i = 0; i < width; ++i) {
        const float value = to_f32(table[static_cast<std::size_t>(ids[row] * width + i)]);
        right.value.push_back(static_cast<double>(value) * 25.3f);  // one rounding, of the type
        right.bound.push_back(0);
      }
    }
    CHECK(wrong(to_host(gpu, x), right) == 0);
  }
}

TEST_CASE("device: softcap of rows") {
  if (no_gpu("device: softcap of rows")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  constexpr std::int64_t rows = 3, width = 1028;
  const auto x = noise<float>(rows * width, 14, 120);
  auto dx = to_device(gpu, x);
  softcap_rows(gpu, dx.data(), rows, width, 30);
  Right right;
  for (const float value : x) {
    right.value.push_back(30 * std::tanh(value / 30.0));
    // tanh_f32 is within 2e-7, and its argument rounds; so does the product.
    right.bound.push_back(30 * (2e-7 + u) + u * 30);
  }
  CHECK(wrong(to_host(gpu, dx), right) == 0);
}

}  // namespace
