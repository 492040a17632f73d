// ProgressBar: how far a long step is, on the standard error stream, if that is a terminal.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "program.hpp"

namespace kvring::programs {

class ProgressBar {
 public:
  explicit ProgressBar(std::string label) : label_(std::move(label)) {}
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar() {
    if (shown_) std::fprintf(stderr, "\r\033[K");
  }

  /// `share`: 0...1. Redrawn ten times a second.
  void operator()(double share) {
    const double now = seconds();
    if (!terminal_ || now - drawn_ < 0.1) return;
    constexpr int width = 40;
    const int filled = std::clamp(static_cast<int>(share * width), 0, width);
    std::fprintf(stderr, "\r%s [%s%s] %3.0f%%", label_.c_str(),
                 std::string(static_cast<std::size_t>(filled), '#').c_str(),
                 std::string(static_cast<std::size_t>(width - filled), '.').c_str(), 100 * share);
    shown_ = true;
    drawn_ = now;
  }

 private:
  std::string label_;
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool shown_ = false;
  double drawn_ = 0;
};

}  // namespace kvring::programs
