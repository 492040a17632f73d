// What the conformance suite asks of kernels, and the library's own as the suite calls them.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "kvring/backend.hpp"
#include "kvring/cache.hpp"
#include "kvring/chunk.hpp"
#include "kvring/kernels/append.hpp"
#include "kvring/kernels/attend_host.hpp"
#include "kvring/kernels/batch.hpp"

namespace kvring::testing::conformance {

/// The library's kernels on a back end: Row, append and attend, as Kernels has them.
template <class BackendType>
struct LibraryKernelsOf;

/// On one thread, so that the suite needs neither Thrust nor OpenMP.
template <>
struct LibraryKernelsOf<Host> {
  template <class View>
  using Row = float;
  static constexpr bool takes_staged(std::int64_t /*key_tile*/) { return true; }

  template <class View>
  static void append(const Host&, View cache, Batch batch, const float* k, const float* v) {
    const Append<View> append{.cache = cache, .batch = batch, .k = k, .v = v};
    for (std::int64_t row = 0; row < batch.rows; ++row) append(row);
  }
  template <LayerPolicy Policy, std::int64_t Tile, class View>
  static void attend(const Host&, Policy, KeyTile<Tile>, View cache, Batch host_batch, Batch,
                     const float* q, float* out, Scores score) {
    const AttendHost<Policy, Tile, View> attend{
        .cache = cache, .batch = host_batch, .q = q, .out = out, .score = score};
    for (std::int64_t block = attend.blocks(host_batch); block-- > 0;) attend(block);
  }
};

/// The library's own kernels.
struct LibraryKernels {
  template <class BackendType, class View>
  using Row = typename LibraryKernelsOf<BackendType>::template Row<View>;

  template <class BackendType, class View, class RowType>
  static void append(const BackendType& backend, View cache, Batch batch, const RowType* k,
                     const RowType* v) {
    LibraryKernelsOf<BackendType>::append(backend, cache, batch, k, v);
  }
  template <class BackendType, LayerPolicy Policy, std::int64_t Tile, class View, class RowType>
  static void attend(const BackendType& backend, Policy policy, KeyTile<Tile> tile, View cache,
                     Batch host_batch, Batch batch, const RowType* q, RowType* out, Scores score) {
    LibraryKernelsOf<BackendType>::attend(backend, policy, tile, cache, host_batch, batch, q, out,
                                          score);
  }
};

/// Why a back end cannot be used on this machine, or nullptr.
template <class BackendType>
const char* why_not() {
  return nullptr;
}

namespace detail {

template <class Kernels, class BackendType, class View>
struct RowOf {
  using type = float;
};
template <class Kernels, class BackendType, class View>
requires requires { typename Kernels::template Row<BackendType, View>; }
struct RowOf<Kernels, BackendType, View> {
  using type = typename Kernels::template Row<BackendType, View>;
};

/// The host on one thread: for_each without Thrust.
struct OneThread : Host {};
template <class F>
void for_each(const OneThread&, std::int64_t count, F f) {
  for (std::int64_t i = 0; i < count; ++i) f(i);
}

/// What stages are opened and committed on, whoever's kernels attend.
inline OneThread for_stages(const Host&) { return {}; }
template <class BackendType>
const BackendType& for_stages(const BackendType& backend) {
  return backend;
}

template <class Kernels, class BackendType>
constexpr bool takes_staged(std::int64_t key_tile) {
  if constexpr (std::is_same_v<LibraryKernels, Kernels>) {
    return LibraryKernelsOf<BackendType>::takes_staged(key_tile);
  } else if constexpr (requires { Kernels::takes_staged; }) {
    return Kernels::takes_staged;
  } else {
    return false;
  }
}
template <class Kernels>
constexpr bool gives_same_bits() {
  if constexpr (requires { Kernels::same_bits; }) return Kernels::same_bits;
  return true;
}
template <class Kernels>
constexpr std::int64_t start_step(std::int64_t key_tile) {
  if constexpr (requires { Kernels::start_step; }) return Kernels::start_step;
  return key_tile;
}
template <class Kernels>
constexpr std::int64_t most_positions() {
  if constexpr (requires { Kernels::most_positions; }) return Kernels::most_positions;
  return std::int64_t{1} << 40;
}

}  // namespace detail

/// What rows of Q, K, V and the result consist of: Kernels::Row<BackendType, View> if there is one,
/// else float.
template <class Kernels, class BackendType, class View>
using RowOf = typename detail::RowOf<Kernels, BackendType, View>::type;

/// Kernels of your own: a struct with two static functions, whose parameters are those of
/// kvring::append_rows and kvring::attend. Arrays of rows end with rows of NaN that belong to no
/// segment of the batch. attend is called after append, on the same stream. It may also say
///   template <class Backend, class View> using Row = ...;    // of q, k, v, out; else float
///   static constexpr bool same_bits = false;                 // its bits depend on the chunking:
///                                                            // compared within the tolerance
///   static constexpr std::int64_t start_step = 256;          // rows that begin a multiple of this
///                                                            // later have the same bits; else the
///                                                            // plan's key tile
///   static constexpr bool takes_staged = true;                // its View may be a StagedView
///   static constexpr std::int64_t most_positions = 1 << 30;  // it counts no further than this
template <class K, class BackendType, class Policy, class Tile, class View>
concept Kernels = requires(const BackendType& backend, View cache, Batch batch,
                           const RowOf<K, BackendType, View>* rows,
                           RowOf<K, BackendType, View>* out, Scores score) {
  K::append(backend, cache, batch, rows, rows);
  K::attend(backend, Policy{}, Tile{}, cache, batch, batch, rows, out, score);
};

}  // namespace kvring::testing::conformance
