// The kernels of single rows on the GPU, against the same functors on the host: the same bits where
// the host fuses multiply-adds, else within the roundings of both.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "device.cuh"
#include "kvring/kernels/activation.hpp"
#include "kvring/kernels/embed.hpp"
#include "kvring/kernels/launch_cuda.cuh"
#include "kvring/kernels/norm.hpp"
#include "kvring/kernels/rope.hpp"
#include "kvring/kernels/rows.hpp"
#include "prompts.hpp"

using namespace kvring;
using namespace kvring::test;

namespace {

constexpr double u = 0x1p-24;  // half a unit in the last place, relative

std::vector<float> noise(std::int64_t count, std::uint64_t seed, float size = 1) {
  Random random(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = random.signed_unit() * size;
  return values;
}

/// Elements that differ: in bits if the host fuses, else by more than `bound` of the element.
template <class Bound>
long differing(const std::vector<float>& device, const std::vector<float>& host, Bound bound) {
  long count = device.size() != host.size();
  for (std::size_t i = 0; i < host.size(); ++i) {
    if (host_fuses) {
      count += std::bit_cast<std::uint32_t>(device[i]) != std::bit_cast<std::uint32_t>(host[i]);
    } else {
      count += !(std::fabs(static_cast<double>(device[i]) - host[i]) <= bound(i));
    }
  }
  return count;
}

const auto exact = [](std::size_t) { return 0.0; };

constexpr std::int64_t rows = 33;
constexpr std::int64_t widths[] = {1, 15, 16, 33, 640, 1152};

struct Exp {
  const float* x;
  float* y;
  KVRING_HD void operator()(std::int64_t i) const { y[i] = exp_f32(x[i]); }
};

TEST_CASE("device: exp_f32") {
  if (no_gpu("device: exp_f32")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  std::vector<float> x;
  for (std::uint32_t i = 0; i < 0x10000u; ++i) x.push_back(std::bit_cast<float>(i << 16 | 0x1234u));
  for (float value = -90; value < 90; value += 0.001f) x.push_back(value);
  for (const float value : {-87.3f, 88.7f}) {
    x.push_back(value);
    x.push_back(std::nextafter(value, 1000.0f));
    x.push_back(std::nextafter(value, -1000.0f));
  }
  const auto from = to_device(gpu, x);
  Buffer<float, Cuda> to(gpu, from.size());
  for_each(gpu, from.size(), Exp{from.data(), to.data()});
  const std::vector<float> results = to_host(gpu, to);
  long wrong = 0, differs = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float host = exp_f32(x[i]);
    if (std::isnan(host)) {
      wrong += !std::isnan(results[i]);
      continue;
    }
    differs += host_fuses && results[i] != host;
    const double right = std::exp(static_cast<double>(x[i]));
    const bool in_range = x[i] >= -87.3f && x[i] <= 88.7f;
    wrong += in_range ? !(std::fabs(results[i] - right) <= 1.5e-7 * right) : results[i] != host;
  }
  CHECK(wrong == 0);
  CHECK(differs == 0);
}

TEST_CASE("device: RmsNorm and AddRmsNorm") {
  if (no_gpu("device: RmsNorm and AddRmsNorm")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  for (const std::int64_t width : widths) {
    CAPTURE(width);
    const std::vector<float> x = noise(rows * width, 1, 5), weight = noise(width, 2, 2);
    const std::vector<float> before = noise(rows * width, 3);
    const auto dx = to_device(gpu, x), dweight = to_device(gpu, weight);
    auto normed = to_device(gpu, before), added = to_device(gpu, before);
    auto in_place = to_device(gpu, x);
    for_each(gpu, rows, RmsNorm{dx.data(), dweight.data(), normed.data(), width, 1e-6f});
    for_each(gpu, rows, AddRmsNorm{dx.data(), dweight.data(), added.data(), width, 1e-6f});
    for_each(gpu, rows, RmsNorm{in_place.data(), dweight.data(), in_place.data(), width, 1e-6f});

    std::vector<float> host_normed(before), host_added(before);
    for (std::int64_t row = 0; row < rows; ++row) {
      RmsNorm{x.data(), weight.data(), host_normed.data(), width, 1e-6f}(row);
      AddRmsNorm{x.data(), weight.data(), host_added.data(), width, 1e-6f}(row);
    }
    // Sums of width / 16 squares a lane and 16 lanes, twice as many roundings unfused; halved by
    // the root; 4 more. For each of the two.
    const double relative = 2 * ((2 * static_cast<double>(width) / 16 + 19) / 2 + 4) * u;
    const auto norm_bound = [&](std::size_t i) { return relative * std::fabs(host_normed[i]); };
    const auto sum_bound = [&](std::size_t i) {
      return relative * std::fabs(host_normed[i]) + 3 * u * std::fabs(host_added[i]);
    };
    CHECK(differing(to_host(gpu, normed), host_normed, norm_bound) == 0);
    CHECK(differing(to_host(gpu, in_place), host_normed, norm_bound) == 0);
    CHECK(differing(to_host(gpu, added), host_added, sum_bound) == 0);
  }
}

template <class Activation>
Gate<Activation> gate_kernel(const float* up, float* gate, std::int64_t width) {
  Gate<Activation> kernel{};
  kernel.up = up;
  kernel.gate = gate;
  kernel.width = width;
  if constexpr (requires { kernel.up_stride; }) kernel.up_stride = width;
  return kernel;
}

template <class Activation>
void gates(const Cuda& gpu) {
  for (const std::int64_t width : widths) {
    const std::vector<float> up = noise(rows * width, 4, 3), gate = noise(rows * width, 5, 12);
    const auto dup = to_device(gpu, up);
    auto dgate = to_device(gpu, gate);
    for_each(gpu, rows, gate_kernel<Activation>(dup.data(), dgate.data(), width));
    std::vector<float> host = gate;
    for (std::int64_t row = 0; row < rows; ++row) {
      gate_kernel<Activation>(up.data(), host.data(), width)(row);
    }
    // Activations are within 3e-7 |x| of what is right (tests of the host); so are both of these.
    CHECK(differing(to_host(gpu, dgate), host,
                    [&](std::size_t i) { return 2 * 4e-7 * std::fabs(gate[i] * up[i]); }) == 0);
  }
}

TEST_CASE("device: gates") {
  if (no_gpu("device: gates")) return;
  const Stream stream;
  gates<GeluTanh>(stream.backend());
  gates<Silu>(stream.backend());
}

TEST_CASE("device: embedding, sums and copies of rows") {
  if (no_gpu("device: embedding, sums and copies of rows")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  for (const std::int64_t width : widths) {
    const std::vector<float> table = noise(50 * width, 6), y = noise(rows * width, 7);
    std::vector<std::int32_t> ids;
    for (std::int32_t row = 0; row < rows; ++row) ids.push_back(row * 7 % 50);
    const auto dtable = to_device(gpu, table);
    const auto dids = to_device(gpu, ids);
    Buffer<float, Cuda> x(gpu, rows * width), copy(gpu, rows * width);
    auto sum = to_device(gpu, y);
    for_each(gpu, rows, Embed{dtable.data(), dids.data(), x.data(), width, 25.3f});
    for_each(gpu, rows, AddRows{x.data(), sum.data(), width});
    for_each(gpu, rows, CopyRows{x.data(), copy.data(), width});

    std::vector<float> host_x(y.size()), host_sum = y;
    for (std::int64_t row = 0; row < rows; ++row) {
      Embed{table.data(), ids.data(), host_x.data(), width, 25.3f}(row);
      AddRows{host_x.data(), host_sum.data(), width}(row);
    }
    CHECK(differing(to_host(gpu, x), host_x, exact) == 0);
    CHECK(differing(to_host(gpu, copy), host_x, exact) == 0);
    CHECK(differing(to_host(gpu, sum), host_sum, exact) == 0);
  }
}

TEST_CASE("device: RoPE") {
  if (no_gpu("device: RoPE")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  constexpr std::int64_t heads = 3, head_dim = 80;
  for (const std::int64_t rotated : {80, 20, 2}) {
    for (const double theta : {10'000.0, 1'000'000.0}) {
      for (const double scaling : {1.0, 8.0}) {
        const Rope rope{theta, scaling, rotated};
        const std::vector<Segment> segments{
            {.sequence = 0, .start = {0}, .first_row = 0, .rows = 5},
            {.sequence = 2, .start = {5'300}, .first_row = 5, .rows = 20},
            {.sequence = 1, .start = {131'000}, .first_row = 25, .rows = 8}};
        const auto dsegments = to_device(gpu, segments);
        Buffer<float, Cuda> dtable(gpu, rows * rotated);
        for_each(gpu, rows, RopeTable{{dsegments.data(), 3, rows}, rope, dtable.data()});
        const std::vector<float> table = to_host(gpu, dtable);
        std::vector<float> host_table(table.size());
        for (std::int64_t row = 0; row < rows; ++row) {
          RopeTable{{segments.data(), 3, rows}, rope, host_table.data()}(row);
        }
        // pow, cos and sin of two libraries may differ in the last place of a double, and so, if
        // that decides a rounding, a frequency in the last place of a float: 2u of the angle.
        long wrong = 0, differs = 0;
        for (std::size_t i = 0; i < table.size(); ++i) {
          const std::int64_t row = static_cast<std::int64_t>(i) / rotated;
          const Batch batch{segments.data(), 3, rows};
          const double angle =
              static_cast<double>(Batch::position(batch.segment_of(row), row).value);
          wrong += !(std::fabs(table[i] - host_table[i]) <= angle * 2 * u + 2 * u);
          differs += table[i] != host_table[i];
        }
        CHECK(wrong == 0);
        CHECK(differs * 100 <= static_cast<long>(table.size()));  // a rare event

        // The rotation itself, by one table.
        const std::vector<float> x = noise(rows * heads * head_dim, 8);
        auto dx = to_device(gpu, x);
        const auto same_table = to_device(gpu, host_table);
        for_each(gpu, rows, RotateHeads{same_table.data(), dx.data(), heads, head_dim, rotated});
        std::vector<float> host_x = x;
        for (std::int64_t row = 0; row < rows; ++row) {
          RotateHeads{host_table.data(), host_x.data(), heads, head_dim, rotated}(row);
        }
        CHECK(differing(to_host(gpu, dx), host_x, [](std::size_t) { return 4 * u; }) == 0);
      }
    }
  }
}

TEST_CASE("device: for_each of no call, of one, of many") {
  if (no_gpu("device: for_each of no call, of one, of many")) return;
  const Stream stream;
  const Cuda gpu = stream.backend();
  for (const std::int64_t count : {0, 1, 31, 100'003}) {
    const std::vector<float> ones(static_cast<std::size_t>(count) + 1, 1.0f);
    const auto x = to_device(gpu, ones);
    auto y = to_device(gpu, std::vector<float>(ones.size(), 0.0f));
    for_each(gpu, count, AddRows{x.data(), y.data(), 1});
    std::vector<float> right(ones.size(), 1.0f);
    right.back() = 0;
    CHECK(to_host(gpu, y) == right);
  }
}

}  // namespace
