// JsonFile: a result that is there whole or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>

#include "kvring/error.hpp"
#include "kvring/io/new_file.hpp"
#include "program.hpp"

namespace kvring::programs {

/// An output that is one of the inputs would be lost: that is no wish.
inline void require_other_file(const char* option, const std::string& output,
                               std::initializer_list<std::string> inputs) {
  for (const std::string& input : inputs) {
    std::error_code unknown;
    require_usage(!std::filesystem::equivalent(output, input, unknown), option, " would overwrite ",
                  input);
  }
}

/// Made before the work whose result it will hold, so that a path that cannot be written, or a full
/// disk, is found out at once.
class JsonFile {
 public:
  /// Tries out `path`, with as many bytes as are expected; nothing of that stays. An empty path: no
  /// file.
  JsonFile(const std::string& path, std::int64_t expected_bytes) : path_(path) {
    if (path.empty()) return;
    const NewFile trial(path);
    if (trial.is_regular()) {
      trial.reserve(expected_bytes);
    } else {
      trial.write("\n");  // white space is valid JSON; a device that takes nothing says so now
    }
  }

  bool wanted() const { return !path_.empty(); }

  /// Writes the result. Text that is no UTF-8 is mended.
  void commit(const nlohmann::ordered_json& json) const {
    const auto mend = nlohmann::ordered_json::error_handler_t::replace;
    NewFile file(path_);
    file.write(json.dump(-1, ' ', false, mend) + "\n");
    file.commit();
  }

 private:
  std::string path_;
};

}  // namespace kvring::programs
