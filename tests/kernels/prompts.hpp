// Prompts made of noise, launches made of their rows, and what attention must give for them within
// the roundings of f32.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "kvring/element.hpp"
#include "kvring/heads.hpp"
#include "kvring/kernels/batch.hpp"
#include "kvring/policy.hpp"
#include "kvring/testing/reference.hpp"

namespace kvring::test {

/// Numbers that follow from a seed alone, on any machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t bits() {  // SplitMix64 (Steele, Lea and Flood, 2014)
    std::uint64_t x = state_ += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  /// low ... high, both included.
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(high - low + 1));
  }
  /// low ... high; each doubling is as likely as the other.
  std::int64_t log_between(std::int64_t low, std::int64_t high) {
    const double ratio = static_cast<double>(high + 1) / static_cast<double>(low);
    const double x = static_cast<double>(low) * std::pow(ratio, unit());
    return std::clamp(static_cast<std::int64_t>(x), low, high);
  }
  double unit() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  /// In [-1, 1); one in sixteen is 0 or -0.
  float signed_unit() {
    const std::uint64_t x = bits();
    if (x % 16 == 0) return x & 16 ? -0.0f : 0.0f;
    return static_cast<float>(static_cast<std::int64_t>(x >> 40)) * 0x1p-23f - 1.0f;
  }

 private:
  std::uint64_t state_;
};

/// Q, K and V of positions begin ... begin + rows - 1. Row i is the same for any begin. K and V are
/// numbers that T holds exactly, so that only arithmetic is compared.
template <Heads H, Element T>
struct Prompt {
  static constexpr Heads heads = H;
  std::int64_t rows, begin;
  float k_size;
  std::vector<float> q, k, v;

  Prompt(std::uint64_t seed, std::int64_t rows, float k_size = 1, std::int64_t begin = 0)
      : rows(rows), begin(begin), k_size(k_size) {
    Random random(seed);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < H.q_dim(); ++j) q.push_back(random.signed_unit());
      for (std::int64_t j = 0; j < H.kv_dim(); ++j) {
        k.push_back(to_f32(from_f32<T>(random.signed_unit() * k_size)));
        v.push_back(to_f32(from_f32<T>(random.signed_unit())));
      }
    }
  }

  std::int64_t end() const { return begin + rows; }
  std::span<const float> q_at(std::int64_t position) const { return row(q, position, H.q_dim()); }
  std::span<const float> k_at(std::int64_t position) const { return row(k, position, H.kv_dim()); }
  std::span<const float> v_at(std::int64_t position) const { return row(v, position, H.kv_dim()); }

 private:
  std::span<const float> row(const std::vector<float>& all, std::int64_t position,
                             std::int64_t width) const {
    return std::span(all).subspan(static_cast<std::size_t>((position - begin) * width),
                                  static_cast<std::size_t>(width));
  }
};

/// Positions `start` ... `start + rows - 1` of a prompt, for one sequence of a cache.
template <class PromptType>
struct Piece {
  std::int64_t sequence;
  const PromptType* prompt;
  std::int64_t start, rows;
};

/// The pieces of a ragged batch, one after the other.
template <class PromptType>
struct Launch {
  std::vector<Segment> segments;
  std::vector<float> q, k, v;
  std::int64_t rows = 0;

  explicit Launch(const std::vector<Piece<PromptType>>& pieces) {
    for (const Piece<PromptType>& piece : pieces) {
      segments.push_back({.sequence = piece.sequence,
                          .start = {piece.start},
                          .first_row = rows,
                          .rows = piece.rows});
      rows += piece.rows;
      for (std::int64_t p = piece.start; p < piece.start + piece.rows; ++p) {
        add(q, piece.prompt->q_at(p));
        add(k, piece.prompt->k_at(p));
        add(v, piece.prompt->v_at(p));
      }
    }
  }
  Batch batch() const {
    return {segments.data(), static_cast<std::int64_t>(segments.size()), rows};
  }

 private:
  static void add(std::vector<float>& to, std::span<const float> row) {
    to.insert(to.end(), row.begin(), row.end());
  }
};

/// What attention over a prompt must give, in double precision.
template <class PromptType>
class Expected {
 public:
  static constexpr Heads heads = PromptType::heads;

  /// `window`: keys that a query sees, or `unbounded`.
  Expected(const PromptType& prompt, std::int64_t window, double scale, double softcap)
      : prompt_(prompt),
        attention_{.q_heads = heads.q,
                   .kv_heads = heads.kv,
                   .head_dim = heads.dim,
                   .window = window,
                   .scale = scale,
                   .softcap = softcap} {
    for (std::int64_t p = prompt.begin; p < prompt.end(); ++p) {
      history_.append(p, prompt.k_at(p), prompt.v_at(p));
    }
  }

  std::vector<double> row(std::int64_t position) const {
    return history_.attend(prompt_.q_at(position), position, attention_);
  }
  /// The same, had the window been `more` keys longer.
  std::vector<double> row_if_window_were(std::int64_t more, std::int64_t position) const {
    testing::Reference::Attention other = attention_;
    other.window += more;
    return history_.attend(prompt_.q_at(position), position, other);
  }

  /// How far f32 may be from that in any element of a head, u = 2^-24. A dot product of D fused
  /// steps and its scale: (D + 1) u sum |q k| |scale|. A softcap c adds the roundings of the
  /// quotient and the product, and tanh_f32's 2e-7. An argument of exp, at most 2 |s|, rounds; exp
  /// is within 1.5e-7. That is a weight; it stands above and below the fraction: twice. Sums: n
  /// keys and a factor for each of N tiles above; below, Tile / 16 and 4 sums a tile, and N
  /// steps; the quotient rounds. 1% for terms of second order. Everything relative to max |v| <= 1.
  double bound(std::int64_t position, std::int64_t head, std::int64_t tile) const {
    constexpr double u = 0x1p-24;
    double magnitude = 0;  // of the query's values
    const std::span<const float> q = prompt_.q_at(position);
    for (std::int64_t d = 0; d < heads.dim; ++d) {
      magnitude += std::fabs(q[static_cast<std::size_t>(head * heads.dim + d)]);
    }
    double score = magnitude * prompt_.k_size * std::fabs(attention_.scale);
    double error = (static_cast<double>(heads.dim) + 1) * u * score;
    if (const double cap = attention_.softcap; cap != 0) {
      error += u * score + cap * (2e-7 + u);
      score = std::min(score, cap);
    }
    const double keys = static_cast<double>(std::min(attention_.window, position + 1));
    const double tiles = keys / static_cast<double>(tile) + 2;
    const double weight = error + 2 * score * u + 1.5e-7;
    const double sums = keys + 2 * tiles + static_cast<double>(tile) / 16 + 5 + 1;
    return 1.01 * (2 * weight + sums * u);
  }

  /// Elements of a row of results that are further away than that; NaN is.
  long wrong(std::span<const float> row_of_results, std::int64_t position,
             std::int64_t tile) const {
    return differing(row_of_results, row(position), position, tile);
  }
  long differing(std::span<const float> results, const std::vector<double>& right,
                 std::int64_t position, std::int64_t tile) const {
    long count = 0;
    for (std::int64_t head = 0; head < heads.q; ++head) {
      const double allowed = bound(position, head, tile);
      for (std::int64_t d = 0; d < heads.dim; ++d) {
        const std::size_t i = static_cast<std::size_t>(head * heads.dim + d);
        count += !(std::fabs(results[i] - right[i]) <= allowed);
      }
    }
    return count;
  }

 private:
  const PromptType& prompt_;
  testing::Reference::Attention attention_;
  testing::Reference history_;
};

}  // namespace kvring::test
