// ByteReader: a cursor over a file's bytes that cannot leave them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "kvring/error.hpp"
#include "kvring/io/printable.hpp"

namespace kvring {

/// Reads little-endian numbers and length-prefixed strings one after the other. Every read is
/// checked against the bytes left, and throws Error with the file, the field, the offset and both
/// sizes. `bytes` and `file` must outlive the reader; so must `bytes` the strings it returns.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, std::string_view file)
      : bytes_(bytes), file_(file) {}

  std::size_t position() const { return position_; }
  std::size_t left() const { return bytes_.size() - position_; }
  std::string_view file() const { return file_; }

  /// The next `count` elements of `size` bytes each, or at least that many of variable size.
  const std::byte* need(std::uint64_t count, std::uint64_t size, std::string_view field) const {
    if (count > left() / size) {
      fail(file_, " is truncated or damaged: ", printable(field), " at offset ", position_,
           " needs ", count, size == 1 ? "" : concat(" times ", size), " bytes, ", left(),
           " are left");
    }
    return bytes_.data() + position_;
  }

  /// The next `count` elements of `size` bytes each, and moves past them.
  const std::byte* take(std::uint64_t count, std::uint64_t size, std::string_view field) {
    const std::byte* data = need(count, size, field);
    position_ += static_cast<std::size_t>(count * size);
    return data;
  }

  template <class T>
  requires std::is_arithmetic_v<T> T number(std::string_view field) {
    T value;
    std::memcpy(&value, take(1, sizeof value, field), sizeof value);
    return value;
  }

  /// A string stored as a 64-bit length and that many bytes.
  std::string_view string(std::string_view field) {
    const auto length = number<std::uint64_t>(field);
    const std::byte* data = take(length, 1, field);
    return {reinterpret_cast<const char*>(data), static_cast<std::size_t>(length)};
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view file_;
  std::size_t position_ = 0;
};

}  // namespace kvring
