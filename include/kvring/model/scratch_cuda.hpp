// CudaScratch: what the fast decoder for GPUs works in, laid out and counted before anything is
// allocated. Plain C++, so that a plan can be printed without a GPU.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kvring/feed_forward.hpp"
#include "kvring/kernels/batch.hpp"
#include "kvring/plan.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// Offsets, in bytes, of the arrays that a chunk or a decoding step needs. T: the plan's element.
template <class PlanType>
struct CudaScratch {
  using Model = typename PlanType::Model;
  // Rows of the gate and up product at a time: wide enough to keep all multiprocessors busy.
  static constexpr std::int64_t ffn_block = 2048;

  std::int64_t rows;      // of a chunk or a step
  std::int64_t ffn_rows;  // of `gate_up`
  std::int64_t residual;  // f32 [rows, hidden]
  std::int64_t normed;    // T [rows, hidden]
  std::int64_t added;     // f32 [rows, hidden]: what a block adds to the residual
  std::int64_t qkv;  // f32 [rows, q, k and v of the widest kind]: rounded once, after the norms
  std::int64_t q;    // T [rows, q_heads, head_dim] of the widest kind
  std::int64_t attended;  // T [rows, q_heads, head_dim]
  std::int64_t gate_up;   // T [ffn_rows, 2 * ffn]
  std::int64_t gated;     // T [rows, ffn], or [rows, per_layer_width]
  std::array<std::int64_t, PlanType::kinds> frequencies;  // f32 [rotated / 2] of each kind
  std::array<std::int64_t, PlanType::kinds> rope;         // f32 [rows, rotated] of each kind
  std::int64_t inputs;                                    // T [rows, layers, per_layer_width]
  std::int64_t logits;                                    // f32 [sequences, vocabulary]
  std::int64_t step_residual;  // f32 [hidden]: the residual stream of a step, when it is elsewhere
  std::int64_t step_qkv;       // f32 [sequences, q, k and v of the widest kind]
  std::int64_t step_ids;       // int32 [sequences]
  std::int64_t step_segments;  // Segment [sequences]
  std::int64_t ids;            // int32 [rows]
  std::int64_t segments;       // Segment [sequences + 1]
  std::int64_t bytes;          // in all

  constexpr CudaScratch(std::int64_t context, std::int64_t sequences,
                        std::int64_t chunk = PlanType::chunk)
      : rows(larger(sequences, smaller(context * sequences, chunk))),
        ffn_rows(smaller(rows, ffn_block)) {
    constexpr std::int64_t element = sizeof(typename PlanType::Element), single = sizeof(float);
    constexpr std::int64_t width = Model::block.per_layer_width, ffn = widest_ffn<Model>();
    std::int64_t q_dim = 0, qkv_dim = 0;
    std::array<std::int64_t, PlanType::kinds> rotated{};
    for (int kind = 0; kind < PlanType::kinds; ++kind) {
      PlanType::with_kind(kind, [&](auto of) {
        using Kind = typename decltype(of)::type;
        q_dim = larger(q_dim, Kind::heads.q_dim());
        qkv_dim = larger(qkv_dim, Kind::heads.q_dim() + 2 * Kind::heads.kv_dim());
        rotated[static_cast<std::size_t>(kind)] = Kind::rope.rotated;
      });
    }
    std::int64_t end = 0;
    const auto take = [&](std::int64_t size) {
      const std::int64_t begin = end;
      end += round_up(size, 256);
      return begin;
    };
    residual = take(rows * Model::hidden * single);
    normed = take(rows * Model::hidden * element);
    added = take(rows * Model::hidden * single);
    qkv = take(rows * qkv_dim * single);
    q = take(rows * q_dim * element);
    attended = take(rows * q_dim * element);
    gate_up = take(ffn_rows * 2 * ffn * element);
    gated = take(rows * larger(ffn, width) * element);
    for (std::size_t kind = 0; kind < PlanType::kinds; ++kind) {
      frequencies[kind] = take(rotated[kind] / 2 * single);
      rope[kind] = take(rows * rotated[kind] * single);
    }
    inputs = take(rows * PlanType::layers * width * element);
    logits = take(sequences * Model::vocabulary * single);
    step_residual = take(Model::hidden * single);
    step_qkv = take(sequences * qkv_dim * single);
    step_ids = take(sequences * static_cast<std::int64_t>(sizeof(std::int32_t)));
    step_segments = take(sequences * static_cast<std::int64_t>(sizeof(Segment)));
    ids = take(rows * static_cast<std::int64_t>(sizeof(std::int32_t)));
    segments = take((sequences + 1) * static_cast<std::int64_t>(sizeof(Segment)));
    bytes = end;
  }
};

}  // namespace kvring
