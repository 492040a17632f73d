// Whether the products of a Gemm keep a row's bits on the machine at hand, tried out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvring/buffer.hpp"
#include "kvring/kernels/launch_cuda.cuh"
#include "kvring/kernels/random.hpp"
#include "kvring/model/gemm_cuda.cuh"

namespace kvring {

/// What check_gemms saw of a shape.
struct GemmOutcome {
  GemmShape shape{};
  bool holds = false;          // as planned
  bool one_algorithm = false;  // not as planned, but with one algorithm for any number of rows
};

struct GemmReport {
  std::vector<GemmOutcome> outcomes;

  /// A row's bits depend on that row alone in every product.
  bool rows_are_independent() const {
    for (const GemmOutcome& outcome : outcomes) {
      if (!outcome.holds && !outcome.one_algorithm) return false;
    }
    return true;
  }
  std::string text() const {
    std::int64_t held = 0, fixed = 0;
    std::string failed;
    for (const GemmOutcome& o : outcomes) {
      held += o.holds;
      fixed += !o.holds && o.one_algorithm;
      if (!o.holds && !o.one_algorithm) failed += concat(" ", o.shape.out, "x", o.shape.in);
    }
    std::string text = concat("products: a row has the same bits in any number of rows, ", held,
                              " of ", outcomes.size(), " shapes");
    if (fixed > 0) text += concat(", ", fixed, " more with one algorithm each");
    if (!failed.empty()) text += concat("; NOT with weights of", failed);
    return text;
  }
};

namespace detail {

/// One value a call.
template <class Out>
struct NoteDifference {
  const Out* a;
  const Out* b;
  std::int32_t* differs;

  KVRING_HD void operator()(std::int64_t i) const {
    if constexpr (sizeof(Out) == 2) {
      if (a[i].bits != b[i].bits) *differs = 1;
    } else {
      if (bit_cast<std::uint32_t>(a[i]) != bit_cast<std::uint32_t>(b[i])) *differs = 1;
    }
  }
};

/// Whether the first and the last of 17 and of 129 rows, as far as so many may come, have the bits
/// that they have alone. Waits for the device.
template <class Out, class T>
bool rows_alone_agree(const Cuda& backend, const Gemm<T>& gemm, const GemmShape& shape,
                      const T* w) {
  constexpr std::int64_t most_bytes = std::int64_t{96} << 20;  // of y
  const std::int64_t fits = most_bytes / (shape.out * static_cast<std::int64_t>(sizeof(Out)));
  const std::int64_t most = smaller(smaller(shape.most_rows, 129), larger(fits, 1));
  Buffer<T, Cuda> x(backend, most * shape.in);
  Buffer<Out, Cuda> alone(backend, shape.out), together(backend, most * shape.out);
  Buffer<std::int32_t, Cuda> differs(backend, 1);
  const std::int32_t no = 0;
  differs.from_host(&no, 1);
  for_each(backend, x.size(), FillNormal<T>{.to = x.data(), .deviation = 1, .seed = 1});
  for (const std::int64_t rows : {smaller(17, most), most}) {
    gemm(backend, x.data(), rows, w, shape.out, shape.in, together.data());
    for (const std::int64_t row : {std::int64_t{0}, rows - 1}) {
      gemm(backend, x.data() + row * shape.in, 1, w, shape.out, shape.in, alone.data());
      for_each(
          backend, shape.out,
          NoteDifference<Out>{together.data() + row * shape.out, alone.data(), differs.data()});
    }
  }
  std::int32_t yes = 0;
  backend.to_host(&yes, differs.data(), sizeof yes);
  return yes == 0;
}

}  // namespace detail

/// Tries every shape of `gemm`, and where rows are not independent fixes it to one algorithm.
/// `weights_of(shape)`: device memory [out, in] to multiply with, or nullptr: random ones are made.
template <class T, class WeightsOf>
GemmReport check_gemms(const Cuda& backend, Gemm<T>& gemm, WeightsOf weights_of) {
  GemmReport report;
  for (const GemmShape& shape : gemm.shapes()) {
    Buffer<T, Cuda> random;
    const T* w = weights_of(shape);
    if (w == nullptr) {
      random = Buffer<T, Cuda>(backend, shape.out * shape.in);
      for_each(backend, random.size(),
               FillNormal<T>{.to = random.data(), .deviation = 0.05f, .seed = 2});
      w = random.data();
    }
    const auto holds = [&] {
      return shape.f32_out ? detail::rows_alone_agree<float>(backend, gemm, shape, w)
                           : detail::rows_alone_agree<T>(backend, gemm, shape, w);
    };
    GemmOutcome outcome{.shape = shape, .holds = holds()};
    if (!outcome.holds && gemm.use_one_algorithm(shape)) outcome.one_algorithm = holds();
    report.outcomes.push_back(outcome);
  }
  return report;
}

}  // namespace kvring
