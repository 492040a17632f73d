// Where UTF-8 characters begin and end.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "kvring/config.hpp"

namespace kvring {

/// The character at the front of `text`, which must not be empty: its length 1…4 if it is whole and
/// valid; minus the bytes present if `text` ends inside it; 0 if no valid character begins so.
/// Overlong forms, surrogates and values above U+10FFFF are invalid.
constexpr int utf8_front(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const int length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  // The second byte's range is narrower after these four leads.
  const unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  for (int i = 1; i < length; ++i) {
    if (static_cast<std::size_t>(i) == text.size()) return -i;
    const unsigned next = byte(static_cast<std::size_t>(i));
    if (next < (i == 1 ? low : 0x80) || next > (i == 1 ? high : 0xbf)) return 0;
  }
  return length;
}

/// Bytes at the end of `text`, 0…3, that begin a character which more bytes could complete.
constexpr std::size_t utf8_unfinished(std::string_view text) {
  for (std::size_t n = 1; n <= std::min<std::size_t>(3, text.size()); ++n) {
    if (utf8_front(text.substr(text.size() - n)) < 0) return n;
  }
  return 0;
}

}  // namespace kvring
