// StagePlan: the stages of a plan with a StagedChunk. Which layers need one, until when, and the
// bytes that they take.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kvring/plan.hpp"
#include "kvring/units.hpp"

namespace kvring {

/// Rows of a stage for batches of up to `rows` rows in `segments` segments. Each segment begins
/// with the start of its first tile: up to tile - 1 rows that are in the ring already.
constexpr std::int64_t stage_rows(std::int64_t rows, std::int64_t segments, std::int64_t tile) {
  return rows + segments * tile;
}

/// In which stage the rows of each layer wait, the same for every chunk and element. They stay
/// until the last layer that reads their cache has attended; then the newest are committed to the
/// ring, and the stage is free for another layer. So a model needs one stage, unless layers that
/// own a cache stand between a donor and its readers.
template <class Layers, class Sharing>
struct StageOrder {
  static constexpr std::int64_t layers = Layers::layers;
  static constexpr auto donor_of = Sharing::template donors<Layers>();

  /// Whether a layer has a window and not a slot for every position.
  static constexpr bool has_stage(std::int64_t layer) {
    return []<class... Kind>(TypeList<Kind...>) {
      return std::array<bool, sizeof...(Kind)>{
          (Kind::Policy::window != unbounded && !std::is_same_v<typename Kind::Storage, Full>)...};
    }(typename Layers::Kinds{})[static_cast<std::size_t>(Layers::kind_of[layer])];
  }

  /// The last layer that reads the cache that `layer` reads.
  static constexpr std::int64_t last_reader(std::int64_t layer) {
    std::int64_t last = layer;
    for (std::int64_t i = layer; i < layers; ++i) {
      last = donor_of[i] == donor_of[layer] ? i : last;
    }
    return last;
  }

  /// -1: none.
  static constexpr std::array<std::int64_t, static_cast<std::size_t>(layers)> stage_of = [] {
    std::array<std::int64_t, static_cast<std::size_t>(layers)> stage{}, free_after{};
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < layers; ++i) {
      if (!has_stage(i)) {
        stage[i] = -1;
      } else if (donor_of[i] != i) {
        stage[i] = stage[donor_of[i]];
      } else {
        std::int64_t first_free = 0;
        while (first_free < count && free_after[first_free] >= i) ++first_free;
        count = larger(count, first_free + 1);
        free_after[first_free] = last_reader(i);
        stage[i] = first_free;
      }
    }
    return stage;
  }();

  static constexpr std::int64_t stages = [] {
    std::int64_t count = 0;
    for (const std::int64_t stage : stage_of) count = larger(count, stage + 1);
    return count;
  }();
};

template <class PlanType>
struct StagePlan {
  using Order = StageOrder<typename PlanType::Layers, typename PlanType::Sharing>;
  static constexpr std::int64_t stages = PlanType::is_staged ? Order::stages : 0;

  /// Values of K and of V that one stage of the plan, if it were staged, must hold. 0 if every
  /// chunk fits in place: contexts no longer than the rings, chunks no longer than their headroom.
  static constexpr std::int64_t half(std::int64_t context, std::int64_t sequences,
                                     std::int64_t chunk = PlanType::chunk) {
    const std::int64_t rows = smaller(context * sequences, chunk);
    std::int64_t most = 0;
    for (int kind = 0; kind < PlanType::kinds; ++kind) {
      PlanType::with_kind(kind, [&](auto of) {
        using Kind = typename decltype(of)::type;
        using Placed = typename PlanType::template StagedPlacementOf<Kind>;
        if constexpr (Placed::is_staged) {
          constexpr std::int64_t headroom = Placed::Storage::slots - (Kind::Policy::window - 1);
          if (context <= Placed::Storage::slots || chunk <= headroom) return;
          most =
              larger(most, stage_rows(rows, sequences, PlanType::key_tile) * Kind::heads.kv_dim());
        }
      });
    }
    return most;
  }

  /// Bytes of all stages, for chunks of up to `chunk` rows of `sequences` sequences of up to
  /// `context` positions.
  static constexpr std::int64_t bytes(std::int64_t context, std::int64_t sequences = 1,
                                      std::int64_t chunk = PlanType::chunk) {
    return PlanType::is_staged ? bytes_if_staged(context, sequences, chunk) : 0;
  }
  static constexpr std::int64_t bytes_if_staged(std::int64_t context, std::int64_t sequences = 1,
                                                std::int64_t chunk = PlanType::chunk) {
    constexpr std::int64_t value = sizeof(typename PlanType::Element);
    return Order::stages * 2 * half(context, sequences, chunk) * value;
  }
};

}  // namespace kvring
