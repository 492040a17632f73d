// Writes small GGUF files for the tests: valid ones, and ones that lie where a test wants them to.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace io_test {

/// The bytes of a number as they lie in the file.
template <class T>
std::string raw(T value) {
  static_assert(std::is_arithmetic_v<T>);
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}
inline std::string raw_string(std::string_view text) {
  return raw(std::uint64_t{text.size()}) + std::string(text);
}

struct GgufWriter {
  struct Entry {
    std::string key, typed_value;
  };
  struct Tensor {
    std::string name;
    std::uint32_t type;
    std::vector<std::uint64_t> dims;
    std::string data;
    std::optional<std::uint64_t> offset = std::nullopt;  // written instead of the true one
  };

  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::optional<std::uint64_t> tensor_count, value_count;  // written instead of the true ones
  std::vector<Entry> entries;
  std::vector<Tensor> tensors;
  std::uint64_t alignment = 32;  // of the data; not written as an entry

  /// The number that GGUF gives to the type of a value.
  template <class T>
  static std::uint32_t type_of() {
    if (std::is_same_v<T, std::uint8_t>) return 0;
    if (std::is_same_v<T, std::int8_t>) return 1;
    if (std::is_same_v<T, std::uint16_t>) return 2;
    if (std::is_same_v<T, std::int16_t>) return 3;
    if (std::is_same_v<T, std::uint32_t>) return 4;
    if (std::is_same_v<T, std::int32_t>) return 5;
    if (std::is_same_v<T, float>) return 6;
    if (std::is_same_v<T, bool>) return 7;
    if (std::is_same_v<T, std::uint64_t>) return 10;
    if (std::is_same_v<T, std::int64_t>) return 11;
    return 12;  // double
  }

  template <class T>
  void add(const std::string& key, T value) {
    entries.push_back({key, raw(type_of<T>()) + raw(value)});
  }
  void add(const std::string& key, const char* text) {
    entries.push_back({key, raw(std::uint32_t{8}) + raw_string(text)});
  }
  template <class T>
  void add_array(const std::string& key, const std::vector<T>& values) {
    std::string out = raw(std::uint32_t{9}) + raw(type_of<T>()) + raw(std::uint64_t{values.size()});
    for (const T value : values) out += raw(value);
    entries.push_back({key, out});
  }
  void add_strings(const std::string& key, const std::vector<std::string>& values) {
    std::string out =
        raw(std::uint32_t{9}) + raw(std::uint32_t{8}) + raw(std::uint64_t{values.size()});
    for (const std::string& value : values) out += raw_string(value);
    entries.push_back({key, out});
  }
  /// Replaces the entry called `key`, which the caller adds anew, or just removes it.
  GgufWriter& without(std::string_view key) {
    std::erase_if(entries, [&](const Entry& entry) { return entry.key == key; });
    return *this;
  }

  std::string bytes() const {
    std::string out = magic + raw(version) + raw(tensor_count.value_or(tensors.size())) +
                      raw(value_count.value_or(entries.size()));
    for (const Entry& entry : entries) out += raw_string(entry.key) + entry.typed_value;
    std::string data;
    for (const Tensor& tensor : tensors) {
      data.resize(rounded_up(data.size()));
      out += raw_string(tensor.name) + raw(static_cast<std::uint32_t>(tensor.dims.size()));
      for (const std::uint64_t dim : tensor.dims) out += raw(dim);
      out += raw(tensor.type) + raw(tensor.offset.value_or(data.size()));
      data += tensor.data;
    }
    if (!tensors.empty()) out.resize(rounded_up(out.size()));
    return out + data;
  }

 private:
  std::size_t rounded_up(std::size_t n) const {
    return (n + alignment - 1) / alignment * alignment;
  }
};

/// A valid file with a value of every type, and three tensors.
inline GgufWriter small_gguf() {
  GgufWriter out;
  out.add("general.architecture", "test");
  out.add("a.u8", std::uint8_t{200});
  out.add("a.i8", std::int8_t{-3});
  out.add("a.u16", std::uint16_t{60000});
  out.add("a.i16", std::int16_t{-30000});
  out.add("a.u32", std::uint32_t{4000000000u});
  out.add("a.i32", std::int32_t{-2000000000});
  out.add("a.u64", std::uint64_t{0xffffffffffffffffu});
  out.add("a.i64", std::int64_t{-5000000000});
  out.add("a.f32", 0.5f);
  out.add("a.f64", 0.25);
  out.add("a.bool", true);
  out.add_array<float>("b.f32", {1.0f, -2.0f});
  out.add_array<std::int32_t>("b.i32", {7, -8, 9});
  out.add_array<std::uint64_t>("b.u64", {1, 2});
  out.add_array<bool>("b.bool", {false, true});
  out.add_strings("b.string", {"one", "", "three"});
  std::string numbers;
  for (int i = 0; i < 6; ++i) numbers += raw(static_cast<float>(i) - 2.5f);
  out.tensors.push_back({"matrix", 0, {3, 2}, numbers});
  out.tensors.push_back({"quants", 8, {32}, raw(std::uint16_t{0x3c00}) + std::string(32, '\2')});
  out.tensors.push_back({"half", 1, {2, 1, 2, 1}, std::string(8, '\x3c')});
  return out;
}

}  // namespace io_test
