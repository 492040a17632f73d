// Json: a file that is one JSON object, parsed strictly; whatever is wrong with it is an Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvring/error.hpp"
#include "kvring/io/mapped_file.hpp"
#include "kvring/io/printable.hpp"

namespace kvring {

using Json = nlohmann::json;

/// A JSON object and the file that it is from.
struct JsonDocument {
  std::string path;
  Json root;
};

/// A value as messages show it: on one line, and cut if it is long.
inline std::string json_text(const Json& value) {
  return printable(value.dump(-1, ' ', true, Json::error_handler_t::replace));
}

/// The object that `text` is: UTF-8, no key twice, at most 32 objects and arrays inside each other.
/// `where` begins the message of the Error that anything else is.
inline Json parse_json_object(std::string_view text, std::string_view where) {
  constexpr int deepest = 32;
  std::vector<std::set<std::string>> open;  // the keys so far of each object around the cursor
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    require(depth <= deepest, where, " is nested more than ", deepest, " deep");
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key) {  // nlohmann would keep the last of two equal keys
      const auto& key = value.get_ref<const std::string&>();
      require(open.back().insert(key).second, where, " has key ", printable(key), " twice");
    }
    return true;
  };
  try {
    Json root = Json::parse(text.begin(), text.end(), watch);
    require(root.is_object(), where, " is no JSON object but ", root.type_name());
    return root;
  } catch (const Json::exception& error) {
    fail(where, " is not valid JSON: ", printable(error.what()));
  }
}

/// Reads a file of at most 100 MB that is one JSON object.
inline JsonDocument read_json(const std::filesystem::path& path) {
  constexpr std::size_t longest = 100'000'000;
  const MappedFile file(path);
  require(file.bytes().size() <= longest, file.path(), " has ", file.bytes().size(),
          " bytes; JSON of at most ", longest, " is read");
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              file.bytes().size());
  return {.path = file.path(), .root = parse_json_object(text, file.path())};
}

/// An object of a document, read field by field. Absent and null read the same: as nothing. Throws
/// Error with file, field and value if a value is of another kind than is asked for. The document
/// must outlive it.
class JsonObject {
 public:
  explicit JsonObject(const JsonDocument& document)
      : JsonObject(document.root, document.path, std::string()) {}

  /// As messages name it: with the fields that lead to it.
  std::string name(std::string_view field) const { return concat(prefix_, field); }

  /// The value, unless it is absent.
  const Json* find_even_null(std::string_view field) const {
    const auto found = object_->find(std::string(field));
    return found == object_->end() ? nullptr : &*found;
  }
  /// The value, unless it is absent or null.
  const Json* find(std::string_view field) const {
    const Json* value = find_even_null(field);
    return value == nullptr || value->is_null() ? nullptr : value;
  }

  std::optional<std::int64_t> integer(std::string_view field) const {
    const Json* value = find(field);
    if (value == nullptr) return {};
    const bool fits = value->is_number_unsigned() ? value->get<std::uint64_t>() <= INT64_MAX
                                                  : value->is_number_integer() && *value >= 0;
    require(fits, what(field, *value), ", wanted a whole number from 0 to 2^63 - 1");
    return value->get<std::int64_t>();
  }
  std::optional<double> number(std::string_view field) const {
    const Json* value = find(field);
    if (value == nullptr) return {};
    require(value->is_number(), what(field, *value), ", wanted a number");
    return value->get<double>();
  }
  std::optional<bool> boolean(std::string_view field) const {
    const Json* value = find(field);
    if (value == nullptr) return {};
    require(value->is_boolean(), what(field, *value), ", wanted true or false");
    return value->get<bool>();
  }
  std::optional<std::string> string(std::string_view field) const {
    const Json* value = find(field);
    if (value == nullptr) return {};
    require(value->is_string(), what(field, *value), ", wanted a string");
    return value->get<std::string>();
  }
  std::optional<std::vector<std::string>> strings(std::string_view field) const {
    const Json* value = find(field);
    if (value == nullptr) return {};
    require(value->is_array(), what(field, *value), ", wanted an array of strings");
    std::vector<std::string> out;
    for (const Json& each : *value) {
      require(each.is_string(), what(field, *value), ", wanted an array of strings");
      out.push_back(each.get<std::string>());
    }
    return out;
  }
  std::optional<JsonObject> object(std::string_view field) const {
    const Json* value = find(field);
    if (value == nullptr) return {};
    require(value->is_object(), what(field, *value), ", wanted an object");
    return JsonObject(*value, where_, concat(prefix_, field, "."));
  }
  std::vector<std::string> fields() const {
    std::vector<std::string> out;
    for (const auto& [field, value] : object_->items()) out.push_back(field);
    return out;
  }

 private:
  JsonObject(const Json& object, std::string where, std::string prefix)
      : object_(&object), where_(std::move(where)), prefix_(std::move(prefix)) {}

  std::string what(std::string_view field, const Json& value) const {
    return concat(where_, ": ", prefix_, printable(field), " is ", json_text(value));
  }

  const Json* object_;
  std::string where_, prefix_;
};

}  // namespace kvring
