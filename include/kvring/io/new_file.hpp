// NewFile: a file that is there whole or not at all.
#pragma once

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "kvring/error.hpp"

namespace kvring {

/// Written beside its place and moved there by commit(), once all bytes are on the disk: whoever
/// opens the path finds the old file or the new one, also if this process is killed meanwhile. What
/// is not committed is removed. A path that is no regular file (a pipe, a device) is written
/// directly. Of a symbolic link, the file that it leads to is replaced.
class NewFile {
 public:
  /// Throws Error if nothing can be written there.
  explicit NewFile(const std::string& path) : path_(path) {
    std::error_code unknown;
    const auto status = std::filesystem::status(path, unknown);
    const bool exists = std::filesystem::exists(status);
    require(!std::filesystem::is_directory(status), "cannot write ", path, ": it is a directory");
    if (exists && !std::filesystem::is_regular_file(status)) {
      file_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
      check(file_ >= 0);
      return;
    }
    if (exists) {
      path_ = std::filesystem::canonical(path).string();  // not the link
      check(::access(path_.c_str(), W_OK) == 0);
    }
    std::string name;
    for (int i = 0; i < 100; ++i) {  // a killed process of the same number may have left its file
      name = concat(path_, ".", ::getpid(), ".", i, ".tmp");
      file_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (file_ >= 0 || errno != EEXIST) break;
    }
    check(file_ >= 0);
    temporary_ = name;
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile() {
    ::close(file_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  /// Whether bytes wait beside the path until commit().
  bool is_regular() const { return !temporary_.empty(); }

  /// Finds out at once whether `bytes` bytes will fit, where the file system can tell.
  void reserve(std::int64_t bytes) const {
    if (temporary_.empty()) return;
    const int error = ::posix_fallocate(file_, 0, bytes);
    require(error != ENOSPC && error != EDQUOT && error != EFBIG, "cannot write ", path_,
            ": no room for ", bytes, " bytes");
  }

  void write(const void* data, std::size_t bytes) const {
    const char* from = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t n = ::write(file_, from, bytes);
      if (n < 0 && errno == EINTR) continue;
      check(n >= 0);
      from += n;
      bytes -= static_cast<std::size_t>(n);
    }
  }
  void write(std::string_view text) const { write(text.data(), text.size()); }

  void commit() {
    if (temporary_.empty()) return;
    check(::fsync(file_) == 0);
    check(::rename(temporary_.c_str(), path_.c_str()) == 0);
    temporary_.clear();
    sync_folder();
  }

 private:
  void check(bool ok) const {
    require(ok, "cannot write ", path_, ": ", std::generic_category().message(errno));
  }

  /// The new name is on the disk too. The file is there either way, so a failure is none.
  void sync_folder() const {
    const auto folder = std::filesystem::absolute(path_).parent_path();
    const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) return;
    ::fsync(file);
    ::close(file);
  }

  std::string path_;
  std::string temporary_;  // empty: written directly, or committed
  int file_ = -1;
};

}  // namespace kvring
