// JsonFile: a result that is there whole or not at all.
#pragma once

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>

#include "kvring/error.hpp"
#include "program.hpp"

namespace kvring::programs {

/// An output that is one of the inputs would be lost: that is no wish.
inline void require_other_file(const std::string& output,
                               std::initializer_list<std::string> inputs) {
  for (const std::string& input : inputs) {
    std::error_code unknown;
    require_usage(!std::filesystem::equivalent(output, input, unknown), "--json would overwrite ",
                  input);
  }
}

/// Made before the work whose result it will hold, so that a path that cannot be written, or a full
/// disk, is found out at once. A regular file is written beside its place and then moved there;
/// anything else (a pipe, /dev/stdout) is written directly.
class JsonFile {
 public:
  /// Tries out `path`, with as many bytes as are expected; nothing of that stays. An empty path: no
  /// file.
  JsonFile(const std::string& path, std::int64_t expected_bytes) : path_(path) {
    if (path.empty()) return;
    const auto status = std::filesystem::status(path);
    const bool exists = std::filesystem::exists(status);
    require(!std::filesystem::is_directory(status), "cannot write ", path, ": it is a directory");
    is_regular_ = !exists || std::filesystem::is_regular_file(status);
    if (exists && is_regular_) path_ = std::filesystem::canonical(path).string();  // not the link
    if (exists && is_regular_) check(::access(path_.c_str(), W_OK) == 0);

    Output trial(*this);
    if (is_regular_) {
      const int error = ::posix_fallocate(trial.file, 0, expected_bytes);
      require(error != ENOSPC && error != EDQUOT && error != EFBIG, "cannot write ", path_,
              ": no room for ", expected_bytes, " bytes");
    } else {
      trial.write("\n");  // white space is valid JSON; a device that takes nothing says so now
    }
  }

  bool wanted() const { return !path_.empty(); }

  /// Writes the result. Text that is no UTF-8 is mended.
  void commit(const nlohmann::ordered_json& json) const {
    const auto mend = nlohmann::ordered_json::error_handler_t::replace;
    const std::string text = json.dump(-1, ' ', false, mend) + "\n";
    Output output(*this);
    output.write(text);
    output.finish();
  }

 private:
  /// A file that is being written; removed, unless it is finished.
  struct Output {
    const JsonFile& json;
    std::string temporary;  // empty: written directly
    int file = -1;

    explicit Output(const JsonFile& to) : json(to) {
      if (json.is_regular_) {
        const std::string name = concat(json.path_, ".", ::getpid(), ".tmp");
        file = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        json.check(file >= 0);
        temporary = name;
      } else {
        file = ::open(json.path_.c_str(), O_WRONLY | O_CLOEXEC);
        json.check(file >= 0);
      }
    }
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;
    ~Output() {
      ::close(file);
      if (!temporary.empty()) ::unlink(temporary.c_str());
    }

    void write(std::string_view text) const {
      while (!text.empty()) {
        const ssize_t n = ::write(file, text.data(), text.size());
        if (n < 0 && errno == EINTR) continue;
        json.check(n >= 0);
        text.remove_prefix(static_cast<std::size_t>(n));
      }
    }
    void finish() {
      if (temporary.empty()) return;
      json.check(::fsync(file) == 0);
      json.check(::rename(temporary.c_str(), json.path_.c_str()) == 0);
      temporary.clear();
    }
  };

  void check(bool ok) const { require(ok, "cannot write ", path_, ": ", errno_text()); }

  std::string path_;
  bool is_regular_ = true;
};

}  // namespace kvring::programs
