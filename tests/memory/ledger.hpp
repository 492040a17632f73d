// Back ends that keep books: what was taken, what was given back, and whether anyone wrote past it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>

#include "kvring/backend.hpp"

namespace kvring::test {

/// What a back end has handed out.
struct Ledger {
  std::map<void*, std::size_t> live;  // bytes by block
  std::size_t limit = std::numeric_limits<std::size_t>::max();
  std::size_t taken = 0;  // bytes, now
  int allocations = 0;    // since the beginning
  int mistakes = 0;       // blocks given back twice, or with another size
};

/// The host's memory, counted, and `Ledger::limit` bytes of it. Without a ledger it has none.
struct Counting : Host {
  Ledger* ledger = nullptr;

  Counting() = default;
  explicit Counting(Ledger& books) : ledger(&books) {}

  void* allocate(std::size_t bytes) const {
    if (ledger == nullptr || bytes > ledger->limit - ledger->taken) {
      fail("out of memory: ", bytes, " bytes were asked for");
    }
    void* memory = Host::allocate(bytes);
    ledger->live[memory] = bytes;
    ledger->taken += bytes;
    ++ledger->allocations;
    return memory;
  }
  void deallocate(void* memory, std::size_t bytes) const noexcept {
    const auto block = ledger->live.find(memory);
    if (block == ledger->live.end() || block->second != bytes) {
      ++ledger->mistakes;
      return;
    }
    ledger->taken -= bytes;
    ledger->live.erase(block);
    Host::deallocate(memory, bytes);
  }
};

/// The same, with a band of known bytes before and after each block.
struct Guarded : Counting {
  using Counting::Counting;
  static constexpr std::size_t band = 4096;
  static constexpr unsigned char canary = 0xa5;

  void* allocate(std::size_t bytes) const {
    auto* block = static_cast<unsigned char*>(Counting::allocate(bytes + 2 * band));
    std::fill_n(block, bytes + 2 * band, canary);
    return block + band;
  }
  void deallocate(void* memory, std::size_t bytes) const noexcept {
    Counting::deallocate(static_cast<unsigned char*>(memory) - band, bytes + 2 * band);
  }

  /// Bytes of the bands that are no longer what they were.
  std::size_t damage() const {
    std::size_t bytes = 0;
    const auto damaged = [](unsigned char byte) { return byte != canary; };
    for (const auto& [memory, size] : ledger->live) {
      const auto* block = static_cast<const unsigned char*>(memory);
      bytes += std::count_if(block, block + band, damaged);
      bytes += std::count_if(block + size - band, block + size, damaged);
    }
    return bytes;
  }
};

static_assert(Backend<Host> && Backend<Counting> && Backend<Guarded>);

}  // namespace kvring::test
