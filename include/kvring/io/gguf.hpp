// GgufFile: metadata and tensors of a GGUF version 3 file, mapped, and checked before use.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kvring/error.hpp"
#include "kvring/io/byte_reader.hpp"
#include "kvring/io/gguf_value.hpp"
#include "kvring/io/mapped_file.hpp"
#include "kvring/io/printable.hpp"
#include "kvring/io/quants.hpp"

namespace kvring {

/// A tensor of the file: a view, valid as long as the GgufFile.
struct GgufTensor {
  std::string_view name;
  GgmlType type{};
  std::array<std::uint64_t, 4> dims{1, 1, 1, 1};  // dims[0] is contiguous; 1 beyond the rank
  int rank = 0;                                   // 1…4
  const std::byte* data = nullptr;                // aligned to 8 bytes or more
  std::size_t bytes = 0;

  /// As the file lists it: "[640, 262144] Q8_0", contiguous dimension first.
  std::string shape() const {
    std::string out = "[";
    for (int i = 0; i < rank; ++i) {
      out += concat(i == 0 ? "" : ", ", dims[static_cast<std::size_t>(i)]);
    }
    return out + "] " + type_info(type).name;
  }
  std::span<const std::byte> span() const { return {data, bytes}; }
};

/// Opens and checks everything but the tensors' values: an object of this class describes a file
/// whose every count, length, type and offset is sound. Throws Error, with the file, the field and
/// the numbers, otherwise. Move-only; views stay valid when it moves.
class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path) : file_(path) { parse(); }

  const std::string& path() const { return file_.path(); }
  const MappedFile& file() const { return file_; }

  bool has(std::string_view key) const { return keys_.contains(key); }
  const std::vector<GgufValue>& values() const { return values_; }

  /// The entry of `key`. Throws Error if there is none.
  const GgufValue& value(std::string_view key) const {
    const auto found = keys_.find(key);
    require(found != keys_.end(), path(), " has no metadata key ", key);
    return values_[found->second];
  }
  std::uint64_t u64(std::string_view key) const { return value(key).u64(); }
  double f64(std::string_view key) const { return value(key).f64(); }
  bool boolean(std::string_view key) const { return value(key).boolean(); }
  std::string_view string(std::string_view key) const { return value(key).string(); }
  std::vector<std::string_view> strings(std::string_view key) const { return value(key).strings(); }
  std::vector<float> f32s(std::string_view key) const { return value(key).f32s(); }
  std::vector<std::int64_t> i64s(std::string_view key) const { return value(key).i64s(); }
  std::vector<bool> booleans(std::string_view key) const { return value(key).booleans(); }

  const std::vector<GgufTensor>& tensors() const { return tensors_; }

  /// The tensor called `name`, or nullptr.
  const GgufTensor* find(std::string_view name) const {
    const auto found = names_.find(name);
    return found == names_.end() ? nullptr : &tensors_[found->second];
  }
  /// The tensor called `name`. Throws Error if there is none.
  const GgufTensor& at(std::string_view name) const {
    const GgufTensor* tensor = find(name);
    require(tensor != nullptr, path(), " has no tensor ", name);
    return *tensor;
  }

  /// Lets the kernel take back the pages of a tensor that has been converted.
  void drop_pages(const GgufTensor& tensor) const { file_.drop_pages(tensor.span()); }

 private:
  using Index = std::unordered_map<std::string_view, std::size_t>;

  // The least bytes that an entry takes bounds every count before memory is reserved for it.
  static constexpr std::uint64_t least_value = 8 + 4 + 1;           // key length, type, a byte
  static constexpr std::uint64_t least_tensor = 8 + 4 + 8 + 4 + 8;  // name, rank, dim, type, offset

  void parse() {
    ByteReader in(file_.bytes(), path());
    const std::byte* magic = in.take(4, 1, "magic");
    require(std::memcmp(magic, "GGUF", 4) == 0, path(),
            " is not a GGUF file: it doesn't start with ", "\"GGUF\"");
    const auto format = in.number<std::uint32_t>("version");
    require(format == 3, path(), " has GGUF version ", format, ", supported: 3, little-endian");
    const auto tensors = in.number<std::uint64_t>("tensor count");
    const auto values = in.number<std::uint64_t>("metadata count");
    in.need(values, least_value, "metadata");
    values_.reserve(values);
    keys_.reserve(values);
    for (std::uint64_t i = 0; i < values; ++i) {
      values_.push_back(read_value(in));
      require(keys_.emplace(values_.back().key, i).second, key_at(values_.back().key),
              " occurs twice");
    }
    in.need(tensors, least_tensor, "tensor table");
    tensors_.reserve(tensors);
    names_.reserve(tensors);
    std::vector<std::uint64_t> offsets(tensors);
    for (std::uint64_t i = 0; i < tensors; ++i) {
      tensors_.push_back(read_tensor(in, offsets[i]));
      require(names_.emplace(tensors_.back().name, i).second, tensor_at(tensors_.back().name),
              "it occurs twice");
    }
    place(in.position(), offsets);
  }

  GgufValue read_value(ByteReader& in) const {
    GgufValue out;
    out.key = in.string("metadata key");
    out.type = read_type(in, out.key);
    out.is_array = out.type == GgufType::array;
    if (out.is_array) {
      out.type = read_type(in, out.key);
      require(out.type != GgufType::array, key_at(out.key),
              " is an array of arrays, which is not supported");
      out.count = in.number<std::uint64_t>(out.key);
    }
    out.data = in.need(out.count, out.type == GgufType::string ? 8 : 1, out.key);
    if (out.type == GgufType::string) {
      for (std::uint64_t i = 0; i < out.count; ++i) in.string(out.key);
    } else {
      in.take(out.count, gguf_types[static_cast<std::size_t>(out.type)].bytes, out.key);
    }
    if (out.type == GgufType::boolean) {
      for (std::uint64_t i = 0; i < out.count; ++i) {
        const auto value = static_cast<unsigned>(out.data[i]);
        if (value > 1) fail(key_at(out.key), " holds the bool ", value, ", wanted 0 or 1");
      }
    }
    return out;
  }

  GgufType read_type(ByteReader& in, std::string_view key) const {
    const auto type = in.number<std::uint32_t>(key);
    require(type < gguf_types.size(), key_at(key), " has unknown type ", type);
    return static_cast<GgufType>(type);
  }

  GgufTensor read_tensor(ByteReader& in, std::uint64_t& offset) const {
    GgufTensor out;
    out.name = in.string("tensor name");
    const std::string where = tensor_at(out.name);
    const auto rank = in.number<std::uint32_t>(out.name);
    require(rank >= 1 && rank <= 4, where, rank, " dimensions, supported: 1 to 4");
    out.rank = static_cast<int>(rank);
    for (std::uint32_t i = 0; i < rank; ++i) {
      out.dims[i] = in.number<std::uint64_t>(out.name);
      require(out.dims[i] > 0, where, "dimension ", i, " is 0");
    }
    out.type = static_cast<GgmlType>(in.number<std::uint32_t>(out.name));
    offset = in.number<std::uint64_t>(out.name);
    std::uint64_t bytes = row_bytes(out.type, out.dims[0], where);
    for (std::size_t i = 1; i < 4; ++i) {
      require(!__builtin_mul_overflow(bytes, out.dims[i], &bytes), where,
              "the product of its dimensions exceeds 2^64 bytes");
    }
    out.bytes = bytes;
    return out;
  }

  // Where each tensor lies: its offset counts from the end of the table, rounded up.
  void place(std::size_t table_end, const std::vector<std::uint64_t>& offsets) {
    const std::uint64_t alignment = has("general.alignment") ? u64("general.alignment") : 32;
    require(std::has_single_bit(alignment) && alignment % 8 == 0, path(), ": general.alignment is ",
            alignment, ", wanted a power of two that is a multiple of 8");
    if (tensors_.empty()) return;
    const std::size_t size = file_.bytes().size();
    const std::uint64_t pad = (alignment - table_end % alignment) % alignment;
    require(pad <= size - table_end, path(), " is truncated: tensor data begins at offset ",
            table_end, " + ", pad, ", the file has ", size, " bytes");
    const std::uint64_t begin = table_end + pad, room = size - begin;
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      GgufTensor& tensor = tensors_[i];
      const std::string where = tensor_at(tensor.name);
      require(offsets[i] % alignment == 0, where, "offset ", offsets[i],
              " is no multiple of the alignment ", alignment);
      require(offsets[i] <= room && tensor.bytes <= room - offsets[i], where,
              "it leaves the file: offset ", offsets[i], ", ", tensor.bytes, " bytes, ", room,
              " bytes of data (truncated?)");
      tensor.data = file_.bytes().data() + begin + offsets[i];
    }
    std::vector<const GgufTensor*> order;
    for (const GgufTensor& tensor : tensors_) order.push_back(&tensor);
    std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->data < b->data; });
    for (std::size_t i = 1; i < order.size(); ++i) {
      require(order[i - 1]->data + order[i - 1]->bytes <= order[i]->data, tensor_at(order[i]->name),
              "it overlaps ", printable(order[i - 1]->name));
    }
  }

  std::string key_at(std::string_view key) const {
    return concat(path(), ": metadata key ", printable(key));
  }
  std::string tensor_at(std::string_view name) const {
    return concat(path(), ": tensor ", printable(name), ": ");
  }

  MappedFile file_;
  std::vector<GgufValue> values_;
  std::vector<GgufTensor> tensors_;
  Index keys_, names_;
};

}  // namespace kvring
