// SafetensorsFile: the tensors of one safetensors file, mapped, and checked before use.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kvring/element.hpp"
#include "kvring/error.hpp"
#include "kvring/io/mapped_file.hpp"
#include "kvring/io/printable.hpp"

namespace kvring {

enum class SafetensorsType { f16, bf16, f32, f64, i32, i64 };

struct SafetensorsTypeInfo {
  const char* name;
  std::uint64_t bytes;  // of one element
};
inline constexpr std::array<SafetensorsTypeInfo, 6> safetensors_types{
    {{"F16", 2}, {"BF16", 2}, {"F32", 4}, {"F64", 8}, {"I32", 4}, {"I64", 8}}};

/// A tensor of the file: a view, valid as long as the SafetensorsFile.
struct SafetensorsTensor {
  std::string name;
  SafetensorsType type{};
  std::vector<std::uint64_t> shape;  // the last dimension is contiguous; empty for a scalar
  const std::byte* data = nullptr;   // of any alignment: the format promises none
  std::size_t bytes = 0;

  const SafetensorsTypeInfo& info() const {
    return safetensors_types[static_cast<std::size_t>(type)];
  }
  std::size_t elements() const { return bytes / info().bytes; }
};

/// Opens and checks everything but the tensors' values. The format is taken strictly: one JSON
/// object of at most 100 MB without repeated keys, types F16, BF16, F32, F64, I32 or I64, and data
/// that the tensors fill from the first byte to the last with no gap and no overlap. Throws Error
/// with the file, the tensor and the numbers otherwise. Move-only; views stay valid when it moves.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path) : file_(path) { parse(); }

  const std::string& path() const { return file_.path(); }
  const MappedFile& file() const { return file_; }

  /// In the order in which they lie in the file.
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }

  /// The tensor called `name`, or nullptr.
  const SafetensorsTensor* find(std::string_view name) const {
    const auto found = names_.find(std::string(name));
    return found == names_.end() ? nullptr : &tensors_[found->second];
  }
  /// The tensor called `name`. Throws Error if there is none.
  const SafetensorsTensor& at(std::string_view name) const {
    const SafetensorsTensor* tensor = find(name);
    require(tensor != nullptr, path(), " has no tensor ", name);
    return *tensor;
  }

  /// The values of a tensor of any float type, in the file's order; F64 is rounded.
  std::vector<float> read_f32(std::string_view name) const {
    const SafetensorsTensor& tensor = at(name);
    switch (tensor.type) {
      case SafetensorsType::f16:
        return read<float, f16>(tensor);
      case SafetensorsType::bf16:
        return read<float, bf16>(tensor);
      case SafetensorsType::f32:
        return read<float, float>(tensor);
      case SafetensorsType::f64:
        return read<float, double>(tensor);
      default:
        break;
    }
    fail(where(name), "its type is ", tensor.info().name, ", wanted a float type");
  }

  /// The values of a tensor of type I64 or I32, in the file's order.
  std::vector<std::int64_t> read_i64(std::string_view name) const {
    const SafetensorsTensor& tensor = at(name);
    switch (tensor.type) {
      case SafetensorsType::i32:
        return read<std::int64_t, std::int32_t>(tensor);
      case SafetensorsType::i64:
        return read<std::int64_t, std::int64_t>(tensor);
      default:
        break;
    }
    fail(where(name), "its type is ", tensor.info().name, ", wanted I32 or I64");
  }

 private:
  using Json = nlohmann::json;

  static constexpr std::uint64_t length_bytes = 8, longest_header = 100'000'000;

  void parse() {
    const auto bytes = file_.bytes();
    require(bytes.size() > length_bytes, path(), " is truncated: ", bytes.size(),
            " bytes are too few for a safetensors header");
    std::uint64_t length;
    std::memcpy(&length, bytes.data(), sizeof length);
    require(length <= bytes.size() - length_bytes && length <= longest_header, path(),
            " is truncated or no safetensors file: its header claims ", length,
            " bytes, the file has ", bytes.size() - length_bytes, " after the length; at most ",
            longest_header, " are allowed");
    const auto* text = reinterpret_cast<const char*>(bytes.data() + length_bytes);
    const Json header = parse_header({text, static_cast<std::size_t>(length)});
    const std::byte* data = bytes.data() + length_bytes + length;
    const std::uint64_t room = bytes.size() - length_bytes - length;
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        check_metadata(entry);
      } else {
        tensors_.push_back(read_tensor(name, entry, data, room));
      }
    }
    place(data, room);
  }

  // nlohmann keeps the last of two equal keys; here they are refused, and so is deep nesting.
  Json parse_header(std::string_view text) const {
    require(text.starts_with('{'), path(), " is no safetensors file: no JSON object follows its ",
            "header length");
    std::vector<std::set<std::string>> open;
    const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
      require(depth <= 4, path(), ": the header is nested more than 4 deep");
      if (event == Json::parse_event_t::object_start) open.emplace_back();
      if (event == Json::parse_event_t::object_end) open.pop_back();
      if (event == Json::parse_event_t::key) {
        const auto& key = value.get_ref<const std::string&>();
        require(open.back().insert(key).second, path(), ": the header has key ", printable(key),
                " twice");
      }
      return true;
    };
    try {
      return Json::parse(text.begin(), text.end(), watch);
    } catch (const Json::exception& error) {
      fail(path(), ": the header is not valid JSON: ", printable(error.what()));
    }
  }

  void check_metadata(const Json& entry) const {
    require(entry.is_object(), path(), ": __metadata__ is no object");
    for (const auto& [key, value] : entry.items()) {
      require(value.is_string(), path(), ": __metadata__ key ", printable(key), " is no string");
    }
  }

  SafetensorsTensor read_tensor(const std::string& name, const Json& entry, const std::byte* data,
                                std::uint64_t room) const {
    const std::string at = where(name);
    require(entry.is_object() && entry.size() == 3 && entry.contains("dtype") &&
                entry.contains("shape") && entry.contains("data_offsets"),
            at, "wanted an object of dtype, shape and data_offsets");
    SafetensorsTensor out;
    out.name = name;
    out.type = read_type(entry["dtype"], at);
    out.shape = read_numbers(entry["shape"], at, "shape");
    const auto offsets = read_numbers(entry["data_offsets"], at, "data_offsets");
    require(offsets.size() == 2, at, "data_offsets has ", offsets.size(), " numbers, wanted 2");
    const auto [begin, end] = std::pair(offsets[0], offsets[1]);
    require(begin <= end && end <= room, at, "data_offsets ", begin, " to ", end,
            " leave the file, which has ", room, " bytes of data (truncated?)");
    std::uint64_t wanted = out.info().bytes;
    for (const std::uint64_t dim : out.shape) {
      require(!__builtin_mul_overflow(wanted, dim, &wanted), at, "its shape exceeds 2^64 bytes");
    }
    require(end - begin == wanted, at, "its shape needs ", wanted, " bytes, data_offsets give ",
            end - begin);
    out.data = data + begin;
    out.bytes = static_cast<std::size_t>(wanted);
    return out;
  }

  static SafetensorsType read_type(const Json& entry, const std::string& at) {
    require(entry.is_string(), at, "dtype is no string");
    const auto& name = entry.get_ref<const std::string&>();
    std::string known;
    for (std::size_t i = 0; i < safetensors_types.size(); ++i) {
      if (name == safetensors_types[i].name) return static_cast<SafetensorsType>(i);
      known += concat(" ", safetensors_types[i].name);
    }
    fail(at, "dtype ", printable(name), " is not supported; supported:", known);
  }

  static std::vector<std::uint64_t> read_numbers(const Json& entry, const std::string& at,
                                                 const char* field) {
    require(entry.is_array(), at, field, " is no array");
    std::vector<std::uint64_t> out;
    for (const Json& each : entry) {
      require(each.is_number_unsigned(), at, field, " holds something that is no whole number ",
              "from 0 to 2^64 - 1");
      out.push_back(each.get<std::uint64_t>());
    }
    return out;
  }

  // Sorts the tensors by place; each must begin where the one before ends.
  void place(const std::byte* data, std::uint64_t room) {
    std::sort(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) {
      return std::pair(a.data, a.bytes) < std::pair(b.data, b.bytes);
    });
    std::uint64_t end = 0;
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      const auto begin = static_cast<std::uint64_t>(tensors_[i].data - data);
      require(begin == end, where(tensors_[i].name), "its data begin at ", begin,
              begin < end ? ", inside the tensor before, which ends at "
                          : ", after a gap: the tensor before ends at ",
              end);
      end += tensors_[i].bytes;
      names_.emplace(tensors_[i].name, i);
    }
    require(end == room, path(), " has ", room, " bytes of data, its tensors take ", end);
  }

  std::string where(std::string_view name) const {
    return concat(path(), ": tensor ", printable(name), ": ");
  }

  template <class Out, class T>
  static std::vector<Out> read(const SafetensorsTensor& tensor) {
    std::vector<Out> out(tensor.elements());
    for (std::size_t i = 0; i < out.size(); ++i) {
      T x;
      std::memcpy(&x, tensor.data + i * sizeof x, sizeof x);
      if constexpr (std::is_arithmetic_v<T>) {
        out[i] = static_cast<Out>(x);
      } else {
        out[i] = to_f32(x);
      }
    }
    return out;
  }

  MappedFile file_;
  std::vector<SafetensorsTensor> tensors_;
  std::unordered_map<std::string, std::size_t> names_;
};

}  // namespace kvring
