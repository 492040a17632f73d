// RoPE against two statements of its own: the rotation by the exact angle, in double precision, and
// the angle as transformers rounds it.
#include "kvring/kernels/rope.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

using namespace kvring;

namespace {

constexpr double u = 0x1p-24;  // half a unit in the last place, relative

struct Shape {
  std::int64_t head_dim, rotated;
  double theta, scaling;
  RopeParts parts{};
};

// Of Llama 3.1 and 3.2, and of a model that never was, with factors that are no powers of two.
constexpr RopeParts llama3_1{.factor = 8, .original_context = 8192};
constexpr RopeParts llama3_2{.factor = 32, .original_context = 8192};
constexpr RopeParts odd_parts{.factor = 5, .low = 1.5, .high = 7, .original_context = 3000};

// Full and partial rotary, the thetas of Llama 2, Qwen, Gemma's two and Llama 4 Scout, linear
// scaling by 8 (Gemma 3, global), by something that is no power of two, and none; scaling by parts.
constexpr Shape shapes[] = {
    {2, 2, 10'000, 1},
    {8, 8, 10'000, 1},
    {64, 64, 500'000, 1},
    {64, 32, 10'000, 1},
    {80, 20, 10'000, 1},
    {96, 96, 10'000, 2.5},
    {128, 128, 1'000'000, 1},
    {128, 128, 1'000'000, 8},
    {256, 256, 10'000, 1},
    {256, 256, 1'000'000, 8},
    {256, 64, 1'000'000, 1},
    {512, 128, 1'000'000, 1},
    {160, 2, 10'000, 1},
    {48, 48, 1, 1},
    {128, 64, 5'000'000, 3},
    {128, 128, 500'000, 1, llama3_1},
    {64, 64, 500'000, 1, llama3_2},
    {96, 80, 10'000, 1, odd_parts},
};

Rope rope_of(const Shape& shape) {
  return {.theta = shape.theta,
          .scaling = shape.scaling,
          .rotated = shape.rotated,
          .parts = shape.parts};
}

/// Angles of rows at `start` ...
std::vector<float> table_of(const Shape& shape, std::int64_t start, std::int64_t rows) {
  const Segment segment{.sequence = 0, .start = {start}, .first_row = 0, .rows = rows};
  std::vector<float> table(static_cast<std::size_t>(rows * shape.rotated));
  const RopeTable kernel{{&segment, 1, rows}, rope_of(shape), table.data()};
  for (std::int64_t row = 0; row < rows; ++row) kernel(row);
  return table;
}

/// By way of memory: else a compiler could do the steps in f32 and fuse two of them.
double nearest_float(double x) {
  const volatile float nearest = static_cast<float>(x);
  return static_cast<double>(nearest);
}

/// `frequency` scaled by parts, as published (transformers' modeling_rope_utils): by how much a
/// pair turns within the original context. `round`: after each step.
template <class Round>
double by_parts(const RopeParts& parts, double frequency, Round round) {
  const double context = static_cast<double>(parts.original_context);
  const double wavelength = round(round(1 / frequency) * round(2 * std::acos(-1.0)));
  if (wavelength > round(context / parts.low)) return round(frequency / parts.factor);
  if (wavelength < round(context / parts.high)) return frequency;
  const double turns = round(round(1 / wavelength) * context);
  const double smooth = round(round(turns - parts.low) / (parts.high - parts.low));
  const double slowed = round(round(round(1 - smooth) * frequency) / parts.factor);
  return round(slowed + round(smooth * frequency));
}

/// position * inv_freq as transformers computes it: in f32, each step rounded.
double rounded_angle(const Shape& shape, std::int64_t position, std::int64_t i) {
  const double exponent =
      nearest_float(2.0 * static_cast<double>(i) / static_cast<double>(shape.rotated));
  const double wavelength = nearest_float(std::exp2(std::log2(shape.theta) * exponent));
  const double plain = nearest_float(1 / wavelength);
  const double frequency = shape.parts.original_context > 0
                               ? by_parts(shape.parts, plain, nearest_float)
                               : nearest_float(plain / nearest_float(shape.scaling));
  return nearest_float(nearest_float(static_cast<double>(position)) * frequency);
}

double exact_angle(const Shape& shape, std::int64_t position, std::int64_t i) {
  const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(shape.rotated);
  const double plain = 1 / std::pow(shape.theta, exponent);
  const double frequency = shape.parts.original_context > 0
                               ? by_parts(shape.parts, plain, [](double x) { return x; })
                               : plain / shape.scaling;
  return static_cast<double>(position) * frequency;
}

constexpr std::int64_t starts[] = {0,    1,       2,         511,       4095,
                                   5312, 131'071, 1'048'575, 8'388'607, 16'777'216 - 3};

TEST_CASE("angles are exact but for the roundings of f32") {
  // Relative to the angle: exponent 1u, which the power magnifies by ln(theta); wavelength, its
  // inverse, scaling, division by it and the product round: 5u. The cosine rounds once more.
  // Scaling by parts rounds the turns (4u), whose error weighs at most high / (high - low) times
  // (factor - 1) times as much in the sum, and twelve steps more.
  long wrong = 0, compared = 0;
  for (const Shape& shape : shapes) {
    for (const std::int64_t start : starts) {
      const std::vector<float> table = table_of(shape, start, 3);
      for (std::int64_t row = 0; row < 3; ++row) {
        for (std::int64_t i = 0; i < shape.rotated / 2; ++i, ++compared) {
          const double angle = exact_angle(shape, start + row, i);
          const RopeParts& parts = shape.parts;
          const double steps = parts.original_context == 0
                                   ? 5
                                   : 17 + (std::log(shape.theta) + 5) * parts.high /
                                              (parts.high - parts.low) * (parts.factor - 1);
          const double bound = angle * (std::log(shape.theta) + steps) * u * 1.001 + u;
          const std::size_t at = static_cast<std::size_t>(row * shape.rotated + i);
          const std::size_t half = static_cast<std::size_t>(shape.rotated / 2);
          wrong += !(std::fabs(table[at] - std::cos(angle)) <= bound);
          wrong += !(std::fabs(table[at + half] - std::sin(angle)) <= bound);
        }
      }
    }
  }
  CHECK(compared > 19'000);
  CHECK(wrong == 0);
}

TEST_CASE("angles are rounded where transformers rounds them") {
  // So no error grows with the position. One unit in the last place of the cosine is allowed.
  long wrong = 0;
  for (const Shape& shape : shapes) {
    for (const std::int64_t start : starts) {
      const std::vector<float> table = table_of(shape, start, 3);
      for (std::int64_t row = 0; row < 3; ++row) {
        for (std::int64_t i = 0; i < shape.rotated / 2; ++i) {
          const double angle = rounded_angle(shape, start + row, i);
          const std::size_t at = static_cast<std::size_t>(row * shape.rotated + i);
          const std::size_t half = static_cast<std::size_t>(shape.rotated / 2);
          wrong += !(std::fabs(table[at] - std::cos(angle)) <= 2 * u);
          wrong += !(std::fabs(table[at + half] - std::sin(angle)) <= 2 * u);
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("linear scaling and scaling by parts: frequencies worked out on paper") {
  const auto near = [](double frequency, double expected) {
    return std::fabs(frequency - expected) <= 4e-7 * expected;
  };
  // Gemma 3, global layers: every pair an eighth as fast. Pair 64 of 128: 1 / sqrt(theta).
  const Rope gemma{.theta = 1'000'000, .scaling = 8, .rotated = 256};
  CHECK(rope_frequency(gemma, 0) == 0.125f);
  CHECK(near(rope_frequency(gemma, 64), 0.125e-3));
  CHECK(near(rope_frequency(gemma, 127), 0.125 * std::pow(1e6, -127.0 / 128)));

  // Llama 3.1: wavelengths of 2 pi 500,000^(i / 64) are below 2,048 up to pair 28 (1,956), and
  // above 8,192 from pair 35 (8,219) on. At pair 32, 2 pi sqrt(500,000) = 4,442.9, it turns 1.8438
  // times in 8,192, which is 0.28128 of the way from 1 to 4: 0.71872 / 8 + 0.28128 = 0.37112.
  const Rope llama{.theta = 500'000, .rotated = 128, .parts = llama3_1};
  const auto plain = [](int pair) { return std::pow(500'000.0, -pair / 64.0); };
  for (const int pair : {0, 1, 16, 28}) CHECK(near(rope_frequency(llama, pair), plain(pair)));
  for (const int pair : {35, 48, 63}) CHECK(near(rope_frequency(llama, pair), plain(pair) / 8));
  CHECK(rope_frequency(llama, 29) < 0.99 * plain(29));
  CHECK(rope_frequency(llama, 34) > 1.01 * plain(34) / 8);
  CHECK(std::fabs(rope_frequency(llama, 32) / plain(32) - 0.37112) < 1e-5);
  // Llama 3.2 1B, heads of 64, factor 32: pair 16 has that wavelength, 0.71872 / 32 + 0.28128.
  const Rope small{.theta = 500'000, .rotated = 64, .parts = llama3_2};
  CHECK(std::fabs(rope_frequency(small, 16) * std::sqrt(500'000.0) - 0.30374) < 1e-5);
  CHECK(near(rope_frequency(small, 31), std::pow(500'000.0, -31.0 / 32) / 32));
}

TEST_CASE("a row's angles are those of its position, whatever its segment and its row") {
  const Shape shape{64, 32, 10'000, 1};
  const std::vector<Segment> segments{
      {.sequence = 2, .start = {700}, .first_row = 0, .rows = 3},
      {.sequence = 0, .start = {0}, .first_row = 3, .rows = 1},
      {.sequence = 7, .start = {699}, .first_row = 4, .rows = 5},
  };
  std::vector<float> together(9 * 32);
  const RopeTable kernel{{segments.data(), 3, 9}, rope_of(shape), together.data()};
  for (const std::int64_t row : {8, 3, 0, 5, 1, 2, 4, 7, 6}) kernel(row);
  int differing = 0;
  for (const Segment& segment : segments) {
    for (std::int64_t i = 0; i < segment.rows; ++i) {
      const std::vector<float> alone = table_of(shape, segment.start.value + i, 1);
      for (std::size_t j = 0; j < 32; ++j) {
        differing += together[static_cast<std::size_t>(segment.first_row + i) * 32 + j] != alone[j];
      }
    }
  }
  CHECK(differing == 0);
}

TEST_CASE("heads rotate by their table, in pairs half of `rotated` apart; the rest stays") {
  std::mt19937 random(3);
  long wrong = 0, kept = 0;
  for (const Shape& shape : shapes) {
    for (const std::int64_t heads : {1, 3, 8}) {
      constexpr std::int64_t rows = 2, start = 1'000;
      const std::vector<float> table = table_of(shape, start, rows);
      std::vector<float> x(static_cast<std::size_t>(rows * heads * shape.head_dim));
      for (float& value : x) value = static_cast<float>(random()) / 2147483648.0f - 1.0f;
      std::vector<float> y = x;
      const RotateHeads kernel{table.data(), y.data(), heads, shape.head_dim, shape.rotated};
      kernel(1);
      for (std::int64_t head = 0; head < rows * heads; ++head) {
        const std::int64_t row = head / heads, half = shape.rotated / 2;
        for (std::int64_t i = 0; i < shape.head_dim; ++i) {
          const std::size_t at = static_cast<std::size_t>(head * shape.head_dim + i);
          if (row == 0 || i >= shape.rotated) {
            wrong += y[at] != x[at];
            ++kept;
            continue;
          }
          const std::int64_t pair = i % half;
          const double angle = rounded_angle(shape, start + row, pair);
          const double low = x[static_cast<std::size_t>(head * shape.head_dim + pair)];
          const double high = x[static_cast<std::size_t>(head * shape.head_dim + pair + half)];
          const double right = i < half ? low * std::cos(angle) - high * std::sin(angle)
                                        : high * std::cos(angle) + low * std::sin(angle);
          // Each product has a factor within 2u; one product rounds, and so does the sum.
          const double bound = (3 * (std::fabs(low) + std::fabs(high)) + std::fabs(right)) * u;
          wrong += !(std::fabs(y[at] - right) <= bound * 1.001);
        }
      }
    }
  }
  CHECK(kept > 0);
  CHECK(wrong == 0);
}

TEST_CASE("a rotation keeps lengths, and scores see only how far apart two positions are") {
  // Near: 1e-5 covers the roundings of angles up to 40 and of 64 products.
  const Shape shape{64, 64, 10'000, 1};
  std::mt19937 random(4);
  std::vector<float> q(64), k(64);
  for (float& value : q) value = static_cast<float>(random()) / 2147483648.0f - 1.0f;
  for (float& value : k) value = static_cast<float>(random()) / 2147483648.0f - 1.0f;
  const auto rotated = [&](std::vector<float> x, std::int64_t position) {
    const std::vector<float> table = table_of(shape, position, 1);
    RotateHeads{table.data(), x.data(), 1, 64, 64}(0);
    return x;
  };
  const auto dot = [](const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * b[i];
    return sum;
  };
  const std::vector<float> turned = rotated(q, 40);
  CHECK(dot(turned, turned) == doctest::Approx(dot(q, q)).epsilon(1e-6));
  for (const std::int64_t shift : {1, 7, 30}) {
    const double here = dot(rotated(q, 10), rotated(k, 3));
    const double there = dot(rotated(q, 10 + shift), rotated(k, 3 + shift));
    CHECK(std::fabs(here - there) < 1e-5 * std::sqrt(dot(q, q) * dot(k, k)));
  }
}

}  // namespace
