// One exception type, and the two functions that throw it. Messages name the numbers and the cure.
#pragma once

#include <concepts>
#include <stdexcept>
#include <string>
#include <string_view>

#include "kvring/config.hpp"

namespace kvring {

/// Everything that kvring refuses at run time: misuse, bad input, exhausted memory.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

inline void put(std::string& out, std::string_view text) { out += text; }
inline void put(std::string& out, char c) { out += c; }
template <class Number>
requires std::integral<Number> || std::floating_point<Number>
void put(std::string& out, Number value) { out += std::to_string(value); }

}  // namespace detail

/// The parts, one after the other, as text: strings, characters, numbers.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::string out;
  (detail::put(out, parts), ...);
  return out;
}

/// Throws Error with "kvring: " and the parts.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(concat("kvring: ", parts...));
}

/// Throws Error with the parts unless `ok`. The parts are only joined on failure.
template <class... Parts>
void require(bool ok, const Parts&... parts) {
  if (!ok) fail(parts...);
}

}  // namespace kvring
