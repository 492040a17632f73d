// WgmmaTiles: the tensor maps of keys, or of values, and where a tile of them lies.
#pragma once

#include <cstdint>

#include "kvring/arch/tensor_map.cuh"
#include "kvring/cache.hpp"
#include "kvring/kernels/staged_view.hpp"
#include "kvring/kernels/wgmma_shape.hpp"
#include "kvring/kernels/wgmma_work.cuh"
#include "kvring/stage_plan.hpp"

namespace kvring {

namespace detail {

/// Storages are whole tiles of so many keys: a larger tile may have its parts in two places.
inline constexpr int part_keys = 64;

/// Queries or results as maps see them: columns of a block, heads of a group, rows, blocks of
/// columns, kv heads. A box then lies in shared memory as a product wants it.
template <Heads heads>
arch::TensorShape query_shape(std::int64_t rows) {
  constexpr std::int64_t columns = block_columns(heads.dim);
  return {{columns, heads.group(), rows, heads.dim / columns, heads.kv},
          {heads.dim, heads.q_dim(), columns, heads.group() * heads.dim}};
}

/// Keys or values: columns of a block, rows, blocks of columns, kv heads, sequences, of which a
/// view does not know how many there are.
template <Heads heads>
arch::TensorShape cache_shape(std::int64_t rows_of_sequence) {
  constexpr std::int64_t many = std::int64_t{1} << 20;
  constexpr std::int64_t columns = block_columns(heads.dim);
  return {{columns, rows_of_sequence, heads.dim / columns, heads.kv, many},
          {heads.kv_dim(), columns, heads.dim, rows_of_sequence * heads.kv_dim()}};
}

template <Heads heads, int keys, class T>
struct RowMaps {
  static constexpr int columns = block_columns(heads.dim);
  static constexpr int blocks = static_cast<int>(heads.dim) / columns;
  CUtensorMap whole;  // a tile
  CUtensorMap part;   // part_keys rows of one block of columns

  static RowMaps over(const T* rows, std::int64_t rows_of_sequence) {
    const arch::TensorShape shape = cache_shape<heads>(rows_of_sequence);
    return {arch::tensor_map(rows, shape, {columns, keys, blocks, 1, 1}),
            arch::tensor_map(rows, shape, {columns, part_keys, 1, 1, 1})};
  }
};

/// f(index of the part, where in shared memory it begins, its block of columns) for each part.
template <int keys, class Maps, class F>
__device__ void each_part(unsigned char* tile, F f) {
  constexpr int blocks = Maps::blocks, row_bytes = 2 * Maps::columns;
  for (int i = 0; i < blocks * (keys / part_keys); ++i) {
    const int part = i / blocks, block = i % blocks;
    f(part, tile + (block * keys + part * part_keys) * row_bytes, block);
  }
}

}  // namespace detail

/// In a cache.
template <class View, int keys>
struct WgmmaTiles {
  using T = typename View::Element;
  using Maps = detail::RowMaps<View::heads, keys, T>;
  static constexpr bool may_wrap = View::Storage::is_ring && keys > detail::part_keys;

  Maps maps;
  int slots;

  static WgmmaTiles of_keys(const View& view) { return over(view.k, view.slots); }
  static WgmmaTiles of_values(const View& view) { return over(view.v, view.slots); }

  __device__ void prefetch() const { arch::prefetch_map(maps.whole); }

  /// Brings tile `tile` of an item, whose first key is in `slot`. One thread.
  __device__ void load(unsigned char* to, const WorkItem& item, int /*tile*/, int slot,
                       arch::Barrier& loaded) const {
    if (!may_wrap || slot + keys <= slots) {
      arch::load_box(to, maps.whole, {0, slot, 0, item.kv_head, item.sequence}, loaded);
      return;
    }
    detail::each_part<keys, Maps>(to, [&](int part, unsigned char* at, int block) {
      load_part(at, item, slot, part, block, loaded);
    });
  }
  __device__ void load_part(unsigned char* to, const WorkItem& item, int slot, int part, int block,
                            arch::Barrier& loaded) const {
    const int row = slot + part * detail::part_keys;
    arch::load_box(to, maps.part,
                   {0, row < slots ? row : row - slots, block, item.kv_head, item.sequence},
                   loaded);
  }

 private:
  static WgmmaTiles over(const T* rows, std::int64_t slots) {
    return {Maps::over(rows, slots), static_cast<int>(slots)};
  }
};

/// In a ring and a stage.
template <class RingView, std::int64_t Tile, int keys>
struct WgmmaTiles<StagedView<RingView, Tile>, keys> {
  static_assert(check::all<check::StageIsWholeTiles<Tile, detail::part_keys>>);
  using View = StagedView<RingView, Tile>;
  using T = typename View::Element;
  using Maps = detail::RowMaps<View::heads, keys, T>;

  WgmmaTiles<RingView, keys> ring;
  Maps stage;

  static WgmmaTiles of_keys(const View& view) {
    return {WgmmaTiles<RingView, keys>::of_keys(view.ring), Maps::over(view.k, rows_of(view))};
  }
  static WgmmaTiles of_values(const View& view) {
    return {WgmmaTiles<RingView, keys>::of_values(view.ring), Maps::over(view.v, rows_of(view))};
  }

  __device__ void prefetch() const {
    ring.prefetch();
    arch::prefetch_map(stage.whole);
  }

  __device__ void load(unsigned char* to, const WorkItem& item, int tile, int slot,
                       arch::Barrier& loaded) const {
    const int row = item.stage_row + tile * keys;
    if (row >= item.stage_begin) {
      arch::load_box(to, stage.whole, {0, row, 0, item.kv_head, 0}, loaded);
    } else if (row + keys <= item.stage_begin) {
      ring.load(to, item, tile, slot, loaded);
    } else {
      detail::each_part<keys, Maps>(to, [&](int part, unsigned char* at, int block) {
        const int part_row = row + part * detail::part_keys;
        if (part_row >= item.stage_begin) {
          arch::load_box(at, stage.part, {0, part_row, block, item.kv_head, 0}, loaded);
        } else {
          ring.load_part(at, item, slot, part, block, loaded);
        }
      });
    }
  }

 private:
  static std::int64_t rows_of(const View& view) {
    return stage_rows(view.fresh.rows, view.fresh.count, Tile);
  }
};

}  // namespace kvring
