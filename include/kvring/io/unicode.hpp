// What Unicode says about a character: a letter, a number, white space, or none of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

#include "kvring/config.hpp"
#include "kvring/io/unicode_table.hpp"
#include "kvring/io/utf8.hpp"

namespace kvring {

/// letter: the general categories L*; number: N*; space: the property White_Space.
enum class CharClass : std::uint8_t { other, letter, number, space };

constexpr CharClass char_class(char32_t code) {
  const auto after =
      std::upper_bound(std::begin(detail::unicode_changes), std::end(detail::unicode_changes),
                       std::uint32_t{code} << 2 | 3u);
  return static_cast<CharClass>(*(after - 1) & 3u);
}

/// A character as it stands in a text.
struct Character {
  char32_t code = 0;
  std::size_t bytes = 0;
  CharClass kind = CharClass::other;
};

/// The character at the front of `text`, which must not be empty. A byte that begins no whole,
/// valid one stands for itself: U+FFFD, the replacement character, of 1 byte.
constexpr Character front_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const int length = utf8_front(text);
  if (length <= 0) return {.code = 0xfffd, .bytes = 1, .kind = CharClass::other};
  char32_t code = byte(0);
  if (length > 1) {
    code &= 0x7fu >> length;
    for (int i = 1; i < length; ++i) code = code << 6 | (byte(static_cast<std::size_t>(i)) & 0x3fu);
  }
  return {.code = code, .bytes = static_cast<std::size_t>(length), .kind = char_class(code)};
}

}  // namespace kvring
