// printable: text from a file, made fit for an error message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "kvring/config.hpp"

namespace kvring {

/// `text` with everything but printable ASCII as \xNN, cut after 80 characters: a damaged file must
/// not fill the screen or send control codes to the terminal.
inline std::string printable(std::string_view text) {
  constexpr std::size_t most = 80;
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i == most) return out + "...";
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c < 0x7f) {
      out += text[i];
    } else {
      out += {'\\', 'x', digits[c / 16], digits[c % 16]};
    }
  }
  return out;
}

}  // namespace kvring
