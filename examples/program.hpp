// What the command-line programs share: exit codes, errors of one line, and input read whole.
#pragma once

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "kvring/error.hpp"

namespace kvring::programs {

/// Exit codes: what was asked for was done; it could not be done; it was asked for wrongly.
enum ExitCode : int { done = 0, bad_input = 1, wrong_usage = 2 };

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
template <class... Parts>
void require_usage(bool ok, const Parts&... parts) {
  if (!ok) throw UsageError(concat(parts...));
}

/// "error: " and the message on one line, whatever it holds, to the standard error stream.
inline void print_error(std::string_view message) {
  constexpr std::string_view prefix = "kvring: ";
  if (message.starts_with(prefix)) message.remove_prefix(prefix.size());
  while (!message.empty() && message.back() == '\n') message.remove_suffix(1);
  std::string line = "error: ";
  for (const char c : message) {
    line += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  }
  std::fprintf(stderr, "%s\n", line.c_str());
}

inline int print_error(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const UsageError& e) {
    print_error(e.what());
    return wrong_usage;
  } catch (const std::bad_alloc&) {
    print_error("out of memory; ask for a shorter context or a smaller chunk");
  } catch (const std::exception& e) {
    print_error(e.what());
  } catch (...) {
    print_error("unknown exception");
  }
  return bad_input;
}

inline std::string errno_text() { return std::generic_category().message(errno); }

/// Everything that was printed has arrived: a full disk or a closed pipe is an error too.
inline void require_printed() {
  const bool printed = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  require(printed, "cannot write to the standard output: ", errno_text());
}
inline void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  require_printed();
}

/// Parses the command line, runs `body` and returns the exit code.
inline int run(CLI::App& app, int argc, char** argv, const std::function<void()>& body) {
  // Memory may run out in a worker thread, from which no exception gets out.
  std::set_terminate([] {
    const auto error = std::current_exception();
    std::_Exit(error ? print_error(error) : bad_input);
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help
    print_error(concat(e.what(), " (--help lists what there is)"));
    return wrong_usage;
  }
  try {
    body();
    require_printed();
  } catch (...) {
    return print_error(std::current_exception());
  }
  return done;
}

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// All bytes of a stream.
inline std::string read_all(std::FILE* stream, const std::string& name) {
  std::string text;
  std::vector<char> part(1 << 16);
  while (const std::size_t got = std::fread(part.data(), 1, part.size(), stream)) {
    text.append(part.data(), got);
  }
  require(std::ferror(stream) == 0, "cannot read ", name, ": ", errno_text());
  return text;
}

/// All bytes of a file, which may be a pipe.
inline std::string read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             &std::fclose);
  require(file != nullptr, "cannot open ", path, ": ", errno_text());
  return read_all(file.get(), path);
}

/// Token ids from a JSON array of numbers.
inline std::vector<std::int32_t> parse_ids(const std::string& text, const std::string& name,
                                           std::int64_t vocabulary) {
  nlohmann::json array;
  try {
    array = nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& e) {
    fail(name, " holds no valid JSON: ", e.what());
  }
  require(array.is_array(), name, " holds a JSON ", array.type_name(),
          ", wanted an array of token ids");
  std::vector<std::int32_t> ids;
  ids.reserve(array.size());
  for (const auto& value : array) {
    require(value.is_number_integer(), name, ": entry ", ids.size(), " is ", value.type_name(),
            ", wanted a token id, an integer");
    const bool fits = !value.is_number_unsigned() ||
                      value.get<std::uint64_t>() < static_cast<std::uint64_t>(vocabulary);
    require(fits && value.get<std::int64_t>() >= 0, name, ": entry ", ids.size(), " is ",
            value.dump(), ", outside the vocabulary of ", vocabulary, " tokens");
    ids.push_back(value.get<std::int32_t>());
  }
  return ids;
}

}  // namespace kvring::programs
