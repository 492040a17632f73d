// refusal: what an Error said.
#pragma once

#include <string>
#include <utility>

#include "kvring/error.hpp"

namespace kvring::test {

/// The words of the Error that f throws, or "" if it throws none.
template <class F>
std::string refusal(F&& f) {
  try {
    std::forward<F>(f)();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

/// Whether a text has these words in it.
inline bool contains(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

}  // namespace kvring::test
