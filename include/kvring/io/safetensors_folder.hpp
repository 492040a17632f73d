// SafetensorsFolder: a model as transformers saves it, config.json and one or more safetensors
// files, checked against each other before use.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "kvring/error.hpp"
#include "kvring/io/json.hpp"
#include "kvring/io/printable.hpp"
#include "kvring/io/safetensors.hpp"

namespace kvring {

/// Opens a folder with config.json and either model.safetensors or the shards that
/// model.safetensors.index.json names; or one .safetensors file with config.json beside it. Of
/// shards, the index must name every tensor, in its shard, and no shard may repeat another's.
/// Throws Error with the file and the tensor otherwise. Move-only; views stay valid when it moves.
class SafetensorsFolder {
 public:
  explicit SafetensorsFolder(const std::filesystem::path& path) : path_(path.string()) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) {
      open_folder(path);
    } else {
      files_.emplace_back(path);
      config_ = read_json(path.parent_path() / config_name);
    }
  }

  /// As it was given.
  const std::string& path() const { return path_; }
  const JsonDocument& config() const { return config_; }
  /// In the order of their names.
  const std::vector<SafetensorsFile>& files() const { return files_; }

  /// The tensor called `name` of any file, or nullptr.
  const SafetensorsTensor* find(std::string_view name) const {
    for (const SafetensorsFile& file : files_) {
      if (const SafetensorsTensor* tensor = file.find(name)) return tensor;
    }
    return nullptr;
  }
  /// The tensor called `name`. Throws Error if there is none.
  const SafetensorsTensor& at(std::string_view name) const {
    const SafetensorsTensor* tensor = find(name);
    require(tensor != nullptr, path(), " has no tensor ", printable(name));
    return *tensor;
  }

 private:
  static constexpr const char* config_name = "config.json";
  static constexpr const char* single_name = "model.safetensors";
  static constexpr const char* index_name = "model.safetensors.index.json";

  static bool exists(const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
  }

  void open_folder(const std::filesystem::path& folder) {
    config_ = read_json(folder / config_name);
    const bool single = exists(folder / single_name), index = exists(folder / index_name);
    require(single || index, path(), " has neither ", single_name, " nor ", index_name);
    require(!single || !index, path(), " has both ", single_name, " and ", index_name,
            ": name the file that is meant, or remove one");
    if (single) {
      files_.emplace_back(folder / single_name);
    } else {
      open_shards(folder, read_json(folder / index_name));
    }
  }

  void open_shards(const std::filesystem::path& folder, const JsonDocument& index) {
    const std::map<std::string, std::string> shard_of = read_weight_map(index);
    std::map<std::string, std::size_t> shards;  // index into files_
    for (const auto& [name, shard] : shard_of) shards.emplace(shard, 0);
    for (auto& [shard, number] : shards) {
      require(exists(folder / shard), index.path, " names shard ", printable(shard),
              ", which is missing");
      number = files_.size();
      files_.emplace_back(folder / shard);
    }

    std::map<std::string_view, const SafetensorsFile*> seen;
    for (const SafetensorsFile& file : files_) {
      for (const SafetensorsTensor& tensor : file.tensors()) {
        const auto [first, fresh] = seen.emplace(tensor.name, &file);
        require(fresh, "tensor ", printable(tensor.name),
                " is in two shards: ", first->second->path(), " and ", file.path());
        require(shard_of.contains(tensor.name), file.path(), ": tensor ", printable(tensor.name),
                " is not in the weight_map of ", index.path);
      }
    }
    for (const auto& [name, shard] : shard_of) {
      require(files_[shards.at(shard)].find(name) != nullptr, index.path, ": tensor ",
              printable(name), " is not in its shard ", printable(shard));
    }
  }

  /// Tensor to shard. Shards are names of files beside the index: a path could lead anywhere.
  static std::map<std::string, std::string> read_weight_map(const JsonDocument& index) {
    const auto found = index.root.find("weight_map");
    require(found != index.root.end() && found->is_object() && !found->empty(), index.path,
            " has no weight_map of tensors to shards");
    std::map<std::string, std::string> shard_of;
    for (const auto& [name, shard] : found->items()) {
      require(shard.is_string(), index.path, ": the shard of tensor ", printable(name),
              " is no string but ", json_text(shard));
      const auto& file = shard.get_ref<const std::string&>();
      const bool plain = file.ends_with(".safetensors") &&
                         file.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
      require(plain, index.path, ": the shard of tensor ", printable(name), " is ", printable(file),
              ", which is no name of a .safetensors file in the folder");
      shard_of.emplace(name, file);
    }
    return shard_of;
  }

  std::string path_;
  JsonDocument config_;
  std::vector<SafetensorsFile> files_;
};

}  // namespace kvring
