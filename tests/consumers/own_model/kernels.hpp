// Kernels of one's own: append and attention in plain loops, which share nothing with kvring's.
// They are right, unless they are told to make one of the mistakes that ring kernels have been seen
// to make.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "kvring/backend.hpp"
#include "kvring/cache.hpp"
#include "kvring/chunk.hpp"
#include "kvring/kernels/attend_scalar.hpp"
#include "kvring/kernels/batch.hpp"

namespace own {

struct Kernels {
  /// The name of the mistake that is made, or none.
  static inline std::string_view mistake;
  static bool makes(std::string_view name) { return mistake == name; }

  /// First value of a position's row, in K and in V.
  template <class View>
  static std::int64_t row(const View& cache, std::int64_t sequence, std::int64_t position) {
    std::int64_t slot = position % cache.slots;
    // Not much further than the end: the suite's guards are 64 rows.
    if (makes("absolute index")) slot = std::min(position, cache.slots + 60);
    return (sequence * cache.slots + slot) * View::heads.kv_dim();
  }

  template <class View>
  static void append(const kvring::Host&, View cache, kvring::Batch batch, const float* k,
                     const float* v) {
    using T = typename View::Element;
    const std::int64_t width = View::heads.kv_dim();
    for (std::int64_t s = 0; s < batch.count; ++s) {
      const kvring::Segment& segment = batch.segments[s];
      std::int64_t rows = segment.rows;
      if (makes("padding appended")) rows = (rows + 7) / 8 * 8;
      for (std::int64_t i = 0; i < rows; ++i) {
        const std::int64_t to = row(cache, segment.sequence, segment.start.value + i);
        const std::int64_t from = (segment.first_row + i) * width;
        for (std::int64_t d = 0; d < width; ++d) {
          cache.k[to + d] = element<T>(k[from + d]);
          cache.v[to + d] = element<T>(v[from + d]);
        }
      }
    }
  }

  template <class Policy, std::int64_t Tile, class View>
  static void attend(const kvring::Host&, Policy, kvring::KeyTile<Tile>, View cache,
                     kvring::Batch batch, kvring::Batch, const float* q, float* out,
                     kvring::Scores score) {
    const kvring::Heads heads = View::heads;
    std::int64_t longest = 0;
    for (std::int64_t s = 0; s < batch.count; ++s) {
      longest = std::max(longest, batch.segments[s].start.value + batch.segments[s].rows);
    }
    for (std::int64_t s = 0; s < batch.count; ++s) {
      const kvring::Segment& segment = batch.segments[s];
      for (std::int64_t i = 0; i < segment.rows; ++i) {
        const std::int64_t p = segment.start.value + i;
        std::int64_t first = 0, end = p + 1;
        if (Policy::window != kvring::unbounded) {
          std::int64_t window = Policy::window;
          if (makes("window one short")) window -= 1;
          if (makes("window one long")) window += 1;
          const std::int64_t of = makes("one window for all rows") ? segment.start.value : p;
          first = std::max<std::int64_t>(0, of - window + 1);
          if (makes("stale slots attended")) {
            first = std::max<std::int64_t>(0, segment.start.value + segment.rows - cache.slots);
          }
          if (makes("mask on slots")) {  // which it takes for positions
            end = p % cache.slots + 1;
            first = std::max<std::int64_t>(0, end - window);
          }
        }
        if (makes("no causal mask")) end = segment.start.value + segment.rows;
        if (makes("longest length for all")) end = std::min(longest, p + cache.slots / 2);
        if (makes("last tile forgotten") && end - first > Tile) end -= (end - first - 1) % Tile + 1;
        const std::int64_t sequence =
            makes("another sequence") ? batch.segments[0].sequence : segment.sequence;
        for (std::int64_t head = 0; head < heads.q; ++head) {
          const std::int64_t of_row = (segment.first_row + i) * heads.q + head;
          const std::int64_t kv_head =
              makes("heads dealt in turn") ? head % heads.kv : head / heads.group();
          attend_head(cache, sequence, kv_head, first, end, q + of_row * heads.dim,
                      out + of_row * heads.dim, score, segment.rows);
        }
      }
    }
  }

 private:
  template <class T>
  static T element(float x) {
    if (makes("append truncates")) {
      std::uint32_t bits;
      std::memcpy(&bits, &x, sizeof bits);
      bits &= 0xffff0000u;
      std::memcpy(&x, &bits, sizeof bits);
    }
    return kvring::from_f32<T>(x);
  }

  template <class View>
  static void attend_head(const View& cache, std::int64_t sequence, std::int64_t kv_head,
                          std::int64_t first, std::int64_t end, const float* q, float* out,
                          kvring::Scores score, std::int64_t rows) {
    const std::int64_t dim = View::heads.dim;
    const auto at = [&](std::int64_t p) { return row(cache, sequence, p) + kv_head * dim; };
    std::vector<float> weights;
    float highest = -INFINITY;
    for (std::int64_t p = first; p < end; ++p) {
      float dot = 0;
      for (std::int64_t d = 0; d < dim; ++d) dot += q[d] * kvring::to_f32(cache.k[at(p) + d]);
      weights.push_back(score(dot));
      highest = std::max(highest, weights.back());
    }
    if (makes("softmax without maximum")) highest = 0;
    float total = 0;
    std::vector<float> sums(static_cast<std::size_t>(dim), 0.0f);
    const auto add = [&](float weight, std::int64_t p) {
      total += weight;
      for (std::int64_t d = 0; d < dim; ++d) {
        sums[static_cast<std::size_t>(d)] += weight * kvring::to_f32(cache.v[at(p) + d]);
      }
    };
    // A whole tile of keys, those out of sight with a weight of 0.
    if (makes("masked by 0")) {
      for (std::int64_t p = first / 64 * 64; p < first; ++p) add(0, p);
    }
    const bool backwards = makes("bits follow the chunk") && rows > 1;
    for (std::int64_t i = 0; i < end - first; ++i) {
      const std::int64_t n = backwards ? end - first - 1 - i : i;
      add(std::exp(weights[static_cast<std::size_t>(n)] - highest), first + n);
    }
    for (std::int64_t d = 0; d < dim; ++d) out[d] = sums[static_cast<std::size_t>(d)] / total;
  }
};

/// The same kernels for which one does not promise that the chunking changes no bit.
struct LooseKernels : Kernels {
  static constexpr bool same_bits = false;
};

}  // namespace own
