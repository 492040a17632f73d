// A test case that cannot run here says so; it is then counted as skipped, never as passed.
#pragma once

#include <cstdio>

namespace kvring::test {

/// True once the running test case has called skip().
inline bool skipped = false;

/// Call it, then return from the test case: `return skip("gemma3 logits", "KVRING_GEMMA3 is
/// unset");`
inline void skip(const char* name, const char* reason) {
  skipped = true;
  std::printf("SKIP %s: %s\nkvring-skipped: %s\n", name, reason, name);
  std::fflush(stdout);
}

}  // namespace kvring::test
