// Caches of several sequences that begin as NaN, between guards of NaN.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "kvring/cache.hpp"
#include "kvring/kernels/append.hpp"
#include "kvring/testing/compare.hpp"
#include "prompts.hpp"

namespace kvring::test {

/// K and V of some sequences. What nobody wrote is NaN, and so are the guards round both.
template <Heads H, Element T, class Storage = Ring<1>>
class TestCache {
 public:
  using View = CacheView<Storage, H, T>;

  TestCache(std::int64_t sequences, std::int64_t slots)
      : sequences_(sequences),
        slots_(slots),
        k_(size(), not_a_number()),
        v_(size(), not_a_number()) {}

  View view() { return {k_.data() + guard, v_.data() + guard, slots_}; }
  std::int64_t slots() const { return slots_; }

  static T not_a_number() { return from_f32<T>(std::numeric_limits<float>::quiet_NaN()); }

  /// Fills the slots of a sequence in which none of positions first ... last lives.
  void fill_all_but(std::int64_t sequence, std::int64_t first, std::int64_t last, T with) {
    std::vector<bool> keep(static_cast<std::size_t>(slots_), false);
    first = std::max(first, last - slots_ + 1);
    for (std::int64_t p = first; p <= last; ++p) keep[static_cast<std::size_t>(p % slots_)] = true;
    for (std::int64_t slot = 0; slot < slots_; ++slot) {
      if (!keep[static_cast<std::size_t>(slot)]) fill_slot(sequence, slot, with);
    }
  }
  void fill_slot(std::int64_t sequence, std::int64_t slot, T with) {
    const std::int64_t row = guard + (sequence * slots_ + slot) * H.kv_dim();
    std::fill_n(k_.begin() + row, H.kv_dim(), with);
    std::fill_n(v_.begin() + row, H.kv_dim(), with);
  }
  bool guards_are_intact() const {
    const auto is_guard = [](T x) { return to_f32(x) != to_f32(x); };
    for (const std::vector<T>* memory : {&k_, &v_}) {
      if (!std::all_of(memory->begin(), memory->begin() + guard, is_guard)) return false;
      if (!std::all_of(memory->end() - guard, memory->end(), is_guard)) return false;
    }
    return true;
  }
  const std::vector<T>& k() const { return k_; }
  const std::vector<T>& v() const { return v_; }

  static constexpr std::int64_t guard = 64 * H.kv_dim();  // elements

 private:
  std::size_t size() const {
    return static_cast<std::size_t>(sequences_ * slots_ * H.kv_dim() + 2 * guard);
  }

  std::int64_t sequences_, slots_;
  std::vector<T> k_, v_;
};

template <class Cache, class PromptType>
void append(Cache& cache, const std::vector<Piece<PromptType>>& pieces) {
  const Launch launch(pieces);
  const Append<typename Cache::View> kernel{cache.view(), launch.batch(), launch.k.data(),
                                            launch.v.data()};
  for (std::int64_t row = 0; row < launch.rows; ++row) kernel(row);
}

inline testing::Difference differing_bits(const std::vector<float>& a,
                                          const std::vector<float>& b) {
  return testing::differing_bits(std::span(a), std::span(b));
}

/// Slots of the smallest ring that the library would prove.
inline std::int64_t ring_slots(std::int64_t window, std::int64_t chunk, std::int64_t tile) {
  return (window - 1 + chunk + tile - 1) / tile * tile;
}

}  // namespace kvring::test
