// Xxh64: a checksum against damage, not against intent. XXH64 with seed 0, after its specification:
// Collet, "xxHash fast digest algorithm" (github.com/Cyan4973/xxHash, doc/xxhash_spec.md).
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvring {

class Xxh64 {
 public:
  void add(const void* data, std::size_t bytes) {
    if (bytes == 0) return;  // of no bytes there may be no address
    const auto* from = static_cast<const unsigned char*>(data);
    total_ += bytes;
    if (held_ > 0) {
      const std::size_t part = bytes < stripe - held_ ? bytes : stripe - held_;
      std::memcpy(&rest_[held_], from, part);
      held_ += part;
      from += part;
      bytes -= part;
      if (held_ < stripe) return;
      mix(rest_.data());
      held_ = 0;
    }
    for (; bytes >= stripe; from += stripe, bytes -= stripe) mix(from);
    if (bytes > 0) std::memcpy(rest_.data(), from, bytes);
    held_ = bytes;
  }

  /// Of all bytes so far.
  std::uint64_t value() const {
    std::uint64_t hash = prime[4];
    if (total_ >= stripe) {
      hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) +
             std::rotl(lanes_[3], 18);
      for (const std::uint64_t lane : lanes_) hash = (hash ^ round(0, lane)) * prime[0] + prime[3];
    }
    hash += total_;
    const unsigned char* from = rest_.data();
    std::size_t left = held_;
    for (; left >= 8; from += 8, left -= 8) {
      hash = std::rotl(hash ^ round(0, read<std::uint64_t>(from)), 27) * prime[0] + prime[3];
    }
    if (left >= 4) {
      hash = std::rotl(hash ^ read<std::uint32_t>(from) * prime[0], 23) * prime[1] + prime[2];
      from += 4;
      left -= 4;
    }
    for (; left > 0; ++from, --left) hash = std::rotl(hash ^ *from * prime[4], 11) * prime[0];
    hash = (hash ^ hash >> 33) * prime[1];
    hash = (hash ^ hash >> 29) * prime[2];
    return hash ^ hash >> 32;
  }

 private:
  static_assert(std::endian::native == std::endian::little, "numbers are read as they lie");
  static constexpr std::size_t stripe = 32;
  static constexpr std::array<std::uint64_t, 5> prime{0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F,
                                                      0x165667B19E3779F9, 0x85EBCA77C2B2AE63,
                                                      0x27D4EB2F165667C5};

  template <class T>
  static std::uint64_t read(const unsigned char* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  static std::uint64_t round(std::uint64_t lane, std::uint64_t input) {
    return std::rotl(lane + input * prime[1], 31) * prime[0];
  }
  void mix(const unsigned char* from) {
    for (std::size_t i = 0; i < 4; ++i) {
      lanes_[i] = round(lanes_[i], read<std::uint64_t>(from + 8 * i));
    }
  }

  std::array<std::uint64_t, 4> lanes_{prime[0] + prime[1], prime[1], 0, 0 - prime[0]};
  std::array<unsigned char, stripe> rest_{};
  std::size_t held_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace kvring
