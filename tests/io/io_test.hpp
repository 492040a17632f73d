// What the tests of files share: files that vanish, random numbers, and refusals with their words.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <string_view>

#include "kvring/error.hpp"
#include "skip.hpp"

namespace io_test {

/// A file with the given bytes, removed at the end of the scope.
class TempFile {
 public:
  explicit TempFile(std::string_view bytes) { write(bytes); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  ~TempFile() { std::filesystem::remove(path_); }

  const std::filesystem::path& path() const { return path_; }

  /// New bytes. A mapping of the old ones must be gone.
  void write(std::string_view bytes) {
    // Written over and cut to size: after truncation to nothing, some file systems write to the
    // disk at once, which tens of thousands of files can't wait for.
    std::fstream out(path_, std::ios::binary | std::ios::in | std::ios::out);
    if (!out) out.open(path_, std::ios::binary | std::ios::out);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    out.close();
    REQUIRE(out.good());
    std::filesystem::resize_file(path_, bytes.size());
  }

 private:
  static std::filesystem::path fresh() {
    static int count = 0;
    const std::string name = "kvring-test-" + std::to_string(::getpid()) + "-";
    return std::filesystem::temp_directory_path() / (name + std::to_string(count++));
  }
  std::filesystem::path path_ = fresh();
};

/// splitmix64: the same numbers everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t operator()() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t n) { return (*this)() % n; }

 private:
  std::uint64_t state_;
};

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE_MESSAGE(in.good(), "cannot open ", path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Checks that `action` throws kvring::Error, and that its message has every one of `words`.
template <class Action>
void check_refused(Action action, std::initializer_list<std::string_view> words) {
  const std::string first(*words.begin());
  try {
    action();
  } catch (const kvring::Error& error) {
    const std::string message = error.what();
    for (const std::string_view word : words) {
      const bool found = message.find(word) != std::string::npos;
      CHECK_MESSAGE(found, "\"", message, "\" lacks \"", std::string(word), "\"");
    }
    return;
  } catch (const std::exception& error) {
    FAIL_CHECK("not kvring::Error but ", error.what());
    return;
  }
  FAIL_CHECK("not refused; expected: ", first);
}

/// The path in the environment variable, or nullptr after reporting the test as skipped.
inline const char* path_or_skip(const char* variable, const char* test) {
  const char* path = std::getenv(variable);
  if (path != nullptr && *path != '\0') return path;
  kvring::test::skip(test, kvring::concat(variable, " is not set").c_str());
  return nullptr;
}

}  // namespace io_test
