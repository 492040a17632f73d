// GgufValue: one metadata entry of a GGUF file, read by the type that the caller wants.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "kvring/error.hpp"
#include "kvring/io/printable.hpp"

namespace kvring {

/// The metadata types; the numbers are GGUF's.
enum class GgufType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

struct GgufTypeInfo {
  const char* name;
  std::uint32_t bytes;  // of one value; 0 if it varies
};
inline constexpr std::array<GgufTypeInfo, 13> gguf_types{{{"u8", 1},
                                                          {"i8", 1},
                                                          {"u16", 2},
                                                          {"i16", 2},
                                                          {"u32", 4},
                                                          {"i32", 4},
                                                          {"f32", 4},
                                                          {"bool", 1},
                                                          {"string", 0},
                                                          {"array", 0},
                                                          {"u64", 8},
                                                          {"i64", 8},
                                                          {"f64", 8}}};

/// A view of one entry. Only GgufFile makes one, after it has checked that all its bytes are there;
/// it is valid as long as that file. Every getter throws Error with the key, the type wanted and
/// the type found.
struct GgufValue {
  std::string_view key;
  GgufType type{};  // the value's, or of the elements if it is an array
  bool is_array = false;
  std::uint64_t count = 1;          // elements; 1 if it is no array
  const std::byte* data = nullptr;  // [count] numbers of any alignment, or strings with lengths

  /// What the value is, in words: "u32", "array of string".
  std::string type_name() const { return concat(is_array ? "array of " : "", info().name); }

  /// Any integer type, not negative.
  std::uint64_t u64() const {
    require(!is_array && is_integer(), mismatch("an integer"));
    return unsigned_at(0);
  }
  /// f32 or f64.
  double f64() const {
    require(!is_array && is_float(), mismatch("a float"));
    return float_at(0);
  }
  bool boolean() const {
    require(!is_array && type == GgufType::boolean, mismatch("a bool"));
    return data[0] != std::byte{0};
  }
  std::string_view string() const {
    require(!is_array && type == GgufType::string, mismatch("a string"));
    return strings_from(data, 1)[0];
  }

  /// An array of strings; the views point into the file.
  std::vector<std::string_view> strings() const {
    require(is_array && type == GgufType::string, mismatch("an array of strings"));
    return strings_from(data, count);
  }
  /// An array of f32 or f64.
  std::vector<float> f32s() const {
    require(is_array && is_float(), mismatch("an array of floats"));
    std::vector<float> out(count);
    for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>(float_at(i));
    return out;
  }
  /// An array of any integer type whose values fit in 64 bits with a sign.
  std::vector<std::int64_t> i64s() const {
    require(is_array && is_integer(), mismatch("an array of integers"));
    std::vector<std::int64_t> out(count);
    for (std::size_t i = 0; i < count; ++i) out[i] = signed_at(i);
    return out;
  }
  std::vector<bool> booleans() const {
    require(is_array && type == GgufType::boolean, mismatch("an array of bools"));
    std::vector<bool> out(count);
    for (std::size_t i = 0; i < count; ++i) out[i] = data[i] != std::byte{0};
    return out;
  }

 private:
  const GgufTypeInfo& info() const { return gguf_types[static_cast<std::size_t>(type)]; }
  bool is_float() const { return type == GgufType::f32 || type == GgufType::f64; }
  bool is_integer() const {
    return !is_float() && type != GgufType::boolean && type != GgufType::string;
  }
  std::string mismatch(const char* wanted) const {
    return concat("metadata key ", printable(key), " is ", type_name(), ", wanted ", wanted);
  }

  template <class T>
  T load(std::size_t i) const {
    T value;
    std::memcpy(&value, data + i * sizeof value, sizeof value);
    return value;
  }
  double float_at(std::size_t i) const {
    return type == GgufType::f32 ? static_cast<double>(load<float>(i)) : load<double>(i);
  }
  std::int64_t signed_at(std::size_t i) const {
    switch (type) {
      case GgufType::u8:
        return load<std::uint8_t>(i);
      case GgufType::i8:
        return load<std::int8_t>(i);
      case GgufType::u16:
        return load<std::uint16_t>(i);
      case GgufType::i16:
        return load<std::int16_t>(i);
      case GgufType::u32:
        return load<std::uint32_t>(i);
      case GgufType::i32:
        return load<std::int32_t>(i);
      case GgufType::i64:
        return load<std::int64_t>(i);
      default:
        break;
    }
    const auto value = load<std::uint64_t>(i);
    require(value <= std::uint64_t{std::numeric_limits<std::int64_t>::max()}, "metadata key ",
            printable(key), " holds ", value, ", beyond 63 bits");
    return static_cast<std::int64_t>(value);
  }
  std::uint64_t unsigned_at(std::size_t i) const {
    if (type == GgufType::u64) return load<std::uint64_t>(i);
    const std::int64_t value = signed_at(i);
    require(value >= 0, "metadata key ", printable(key), " is ", value, ", wanted a number >= 0");
    return static_cast<std::uint64_t>(value);
  }

  static std::vector<std::string_view> strings_from(const std::byte* p, std::uint64_t count) {
    std::vector<std::string_view> out(count);
    for (std::string_view& each : out) {
      std::uint64_t length;
      std::memcpy(&length, p, sizeof length);
      each = {reinterpret_cast<const char*>(p + sizeof length), static_cast<std::size_t>(length)};
      p += sizeof length + length;
    }
    return out;
  }
};

}  // namespace kvring
