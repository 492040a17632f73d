// Writes small safetensors files, and folders of files that vanish, for the tests.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "gguf_writer.hpp"
#include "kvring/error.hpp"

namespace io_test {

struct SafetensorsEntry {
  std::string name, dtype;
  std::vector<std::int64_t> shape;
  std::string data;
};

/// A valid file of the tensors, one after the other.
inline std::string safetensors_bytes(const std::vector<SafetensorsEntry>& tensors) {
  std::string header = "{", data;
  for (const SafetensorsEntry& tensor : tensors) {
    std::string shape;
    for (const std::int64_t dim : tensor.shape) {
      shape += kvring::concat(shape.empty() ? "" : ",", dim);
    }
    header += kvring::concat(header.size() == 1 ? "" : ",", "\"", tensor.name, "\":{\"dtype\":\"",
                             tensor.dtype, "\",\"shape\":[", shape, "],\"data_offsets\":[",
                             data.size(), ",", data.size() + tensor.data.size(), "]}");
    data += tensor.data;
  }
  header += "}";
  return raw(std::uint64_t{header.size()}) + header + data;
}

/// A folder, removed with all that is in it at the end of the scope.
class TempFolder {
 public:
  TempFolder() { std::filesystem::create_directory(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() { std::filesystem::remove_all(path_); }

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

  /// A file, new or with new bytes. A mapping of the old ones must be gone.
  TempFolder& write(std::string_view name, std::string_view bytes) {
    // Written over and cut to size: see TempFile.
    std::fstream out(path_ / name, std::ios::binary | std::ios::in | std::ios::out);
    if (!out) out.open(path_ / name, std::ios::binary | std::ios::out);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    out.close();
    REQUIRE(out.good());
    std::filesystem::resize_file(path_ / name, bytes.size());
    return *this;
  }
  TempFolder& remove(std::string_view name) {
    std::filesystem::remove_all(path_ / name);
    return *this;
  }
  TempFolder& make_folder(std::string_view name) {
    std::filesystem::create_directory(path_ / name);
    return *this;
  }

 private:
  static std::filesystem::path fresh() {
    static int count = 0;
    const std::string name = "kvring-test-folder-" + std::to_string(::getpid()) + "-";
    return std::filesystem::temp_directory_path() / (name + std::to_string(count++));
  }
  std::filesystem::path path_ = fresh();
};

}  // namespace io_test
