// Scratch: what a forward pass works in, laid out and counted before anything is allocated.
#pragma once

#include <array>
#include <cstdint>

#include "kvring/feed_forward.hpp"
#include "kvring/plan.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// Matrices are multiplied by rows in groups of so many, full ones: a row that is left over would
/// be summed in another order by the host's kernel, and its bits would depend on its neighbours.
inline constexpr std::int64_t row_group = 4;

/// Offsets, in floats, of the arrays that a chunk needs. Rows come in multiples of `row_group`,
/// since matrices are multiplied so many rows at a time.
template <class PlanType>
struct ScratchLayout {
  using Model = typename PlanType::Model;
  static constexpr std::int64_t ffn_block = 512;  // rows of the feed-forward block at a time

  std::int64_t rows;      // of a chunk, rounded up
  std::int64_t ffn_rows;  // of `gate` and `up`
  std::int64_t residual;  // [rows + row_group, hidden]: blocks of rows may begin anywhere
  std::int64_t normed;    // [rows, hidden]
  std::int64_t added;     // [rows, hidden]: what a block adds to the residual
  std::int64_t q;         // [rows, q_heads, head_dim] of the widest kind
  std::int64_t k;         // [rows, kv_heads, head_dim] of the widest kind
  std::int64_t v;         // [rows, kv_heads, head_dim]
  std::int64_t attended;  // [rows, q_heads, head_dim]
  std::int64_t gate;      // [ffn_rows, widest_ffn]
  std::int64_t up;        // [ffn_rows, widest_ffn]
  std::array<std::int64_t, PlanType::kinds> rope;  // [rows, rotated] of each kind
  std::int64_t inputs;                             // [rows, layers, per_layer_width]
  std::int64_t table;                              // [ffn_rows, layers, per_layer_width]
  std::int64_t logits;                             // [vocabulary]
  std::int64_t floats;                             // in all

  /// For chunks of up to `chunk` rows, of `sequences` sequences of up to `context` positions.
  constexpr ScratchLayout(std::int64_t context, std::int64_t sequences,
                          std::int64_t chunk = PlanType::chunk)
      : rows(round_up(smaller(context * sequences, chunk), row_group)),
        ffn_rows(smaller(rows, ffn_block)) {
    std::int64_t q_dim = 0, kv_dim = 0;
    std::array<std::int64_t, PlanType::kinds> rotated{};
    for (int kind = 0; kind < PlanType::kinds; ++kind) {
      PlanType::with_kind(kind, [&](auto of) {
        using Kind = typename decltype(of)::type;
        q_dim = larger(q_dim, Kind::heads.q_dim());
        kv_dim = larger(kv_dim, Kind::heads.kv_dim());
        rotated[kind] = Kind::rope.rotated;
      });
    }
    std::int64_t end = 0;
    const auto take = [&](std::int64_t count) {
      const std::int64_t begin = end;
      end += round_up(count, 16);  // 64 bytes
      return begin;
    };
    residual = take((rows + row_group) * Model::hidden);
    normed = take(rows * Model::hidden);
    added = take(rows * Model::hidden);
    q = take(rows * q_dim);
    k = take(rows * kv_dim);
    v = take(rows * kv_dim);
    attended = take(rows * q_dim);
    gate = take(ffn_rows * widest_ffn<Model>());
    up = take(ffn_rows * widest_ffn<Model>());
    for (int kind = 0; kind < PlanType::kinds; ++kind) rope[kind] = take(rows * rotated[kind]);
    inputs = take(rows * PlanType::layers * Model::block.per_layer_width);
    table = take(ffn_rows * PlanType::layers * Model::block.per_layer_width);
    logits = take(Model::vocabulary);
    floats = end;
  }

  constexpr std::int64_t bytes() const { return floats * static_cast<std::int64_t>(sizeof(float)); }
};

}  // namespace kvring
