// MappedFile: a file's bytes, mapped read-only for as long as the object lives.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "kvring/error.hpp"

namespace kvring {

/// Owns a read-only, private mapping of one whole regular file. Move-only; the bytes keep their
/// address when the object moves. If another process truncates the file meanwhile, reading the lost
/// part kills this one (SIGBUS): replace weight files by renaming, never in place.
class MappedFile {
 public:
  /// Throws Error if the file is missing, unreadable, empty, a directory or no regular file.
  explicit MappedFile(const std::filesystem::path& path) : path_(path.string()) {
    // Without O_NONBLOCK, opening a pipe would wait for its writer instead of being refused below.
    const Descriptor file{::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    require(file.id >= 0, "cannot open ", path_, ": ", reason());
    struct stat status {};
    const bool examined = ::fstat(file.id, &status) == 0;  // before reason() reads errno
    require(examined, "cannot examine ", path_, ": ", reason());
    require(!S_ISDIR(status.st_mode), path_, " is a directory; name a file in it");
    require(S_ISREG(status.st_mode), path_, " is not a regular file, so it can't be mapped");
    require(status.st_size > 0, path_, " is empty (0 bytes)");
    const auto size = static_cast<std::size_t>(status.st_size);
    void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.id, 0);
    require(memory != MAP_FAILED, "cannot map ", size, " bytes of ", path_, ": ", reason());
    bytes_ = {static_cast<const std::byte*>(memory), size};
  }

  MappedFile(MappedFile&& other) noexcept
      : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedFile() {
    if (!bytes_.empty()) ::munmap(address(bytes_.data()), bytes_.size());
  }

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

  /// Takes every page that `part` touches out of this process's memory, for instance once weights
  /// have been converted. Nothing is lost: the next read fetches the page from the file again.
  void drop_pages(std::span<const std::byte> part) const {
    if (part.empty()) return;
    const std::byte* const end = bytes_.data() + bytes_.size();
    require(part.data() >= bytes_.data() && part.data() + part.size() <= end,
            "drop_pages: the range is not inside the mapping of ", path_);
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const auto offset = static_cast<std::size_t>(part.data() - bytes_.data());
    const std::size_t first = offset / page * page;  // the mapping itself starts on a page
    ::madvise(address(bytes_.data() + first), offset + part.size() - first, MADV_DONTNEED);
  }

 private:
  struct Descriptor {
    int id;
    ~Descriptor() {
      if (id >= 0) ::close(id);
    }
  };

  static std::string reason() { return std::generic_category().message(errno); }
  static void* address(const std::byte* bytes) {
    return const_cast<void*>(static_cast<const void*>(bytes));
  }

  std::string path_;
  std::span<const std::byte> bytes_;
};

}  // namespace kvring
