// Append: new rows of K and V into their slots.
#pragma once

#include <cstdint>

#include "kvring/cache.hpp"
#include "kvring/kernels/batch.hpp"

namespace kvring {

/// One row of the batch a call: converts it to the cache's element type and writes it to the slot
/// of its position. Rows never share a slot, as long as each segment is no longer than the ring
/// (what LiveRange::append refuses), so rows may run in any order.
template <class View, class Source = float>
struct Append {
  View cache;
  Batch batch;
  const Source* k;  // [rows, kv_heads, head_dim]
  const Source* v;  // [rows, kv_heads, head_dim]

  KVRING_HD void operator()(std::int64_t row) const {
    using T = typename View::Element;
    constexpr std::int64_t width = View::heads.kv_dim();
    const Segment& segment = batch.segment_of(row);
    const KvPointers<T> to = cache.template of_segment<1>(batch.index_of(segment))
                                 .rows(segment.sequence, Batch::position(segment, row));
    const std::int64_t from = row * width;
    for (std::int64_t i = 0; i < width; ++i) {
      to.k[i] = from_f32<T>(to_f32(k[from + i]));
      to.v[i] = from_f32<T>(to_f32(v[from + i]));
    }
  }
};

/// The rows of K and V of a batch to the slots of their positions. Back ends may overload it.
template <class Backend, class View, class Source>
void append_rows(const Backend& backend, View cache, Batch batch, const Source* k,
                 const Source* v) {
  for_each(backend, batch.rows,
           Append<View, Source>{.cache = cache, .batch = batch, .k = k, .v = v});
}

}  // namespace kvring
