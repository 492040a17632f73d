// State files: a sequence on the disk, its tokens and what is live of it, with all that must be
// equal where it is to go on.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvring/io/byte_reader.hpp"
#include "kvring/io/mapped_file.hpp"
#include "kvring/io/new_file.hpp"
#include "kvring/io/plan_fields.hpp"
#include "kvring/io/printable.hpp"
#include "kvring/io/xxh64.hpp"
#include "kvring/snapshot.hpp"

namespace kvring {

// The layout, numbers little-endian: magic (8 bytes), version (u32), then lengths in bytes or
// counts: fields (u32), positions held (i64), positions ever written (i64), tokens (i64), values in
// bytes (i64); the fields as lines "name: value"; tokens (i32 each); the values, as
// Snapshot::rows() has them; XXH64 of everything before it (u64).
namespace detail {

inline constexpr std::string_view state_magic = "kvringST";
inline constexpr std::uint32_t state_version = 1;

/// A NewFile and the checksum of what went into it.
class SummedFile {
 public:
  explicit SummedFile(const std::string& path) : file_(path) {}
  void write(const void* data, std::size_t bytes) {
    sum_.add(data, bytes);
    file_.write(data, bytes);
  }
  template <class Number>
  void number(Number value) {
    write(&value, sizeof value);
  }
  void commit() {
    number(sum_.value());
    file_.commit();
  }

 private:
  NewFile file_;
  Xxh64 sum_;
};

}  // namespace detail

/// Writes a sequence: `tokens` are its text, of which the snapshot holds the first; more of them
/// may follow that are not appended yet. `more`: fields besides the plan's that must be equal, such
/// as a checksum of the weights. The file is there whole or not at all.
template <class PlanType>
void write_state(const std::string& path, const Snapshot<PlanType>& snapshot,
                 std::span<const std::int32_t> tokens, std::span<const PlanField> more = {}) {
  require(std::ssize(tokens) >= snapshot.length(), "a state of ", snapshot.length(),
          " positions needs their tokens; ", tokens.size(), " were given");
  std::string fields;
  for (const PlanField& field : plan_fields<PlanType>()) {
    fields += concat(field.name, ": ", field.value, "\n");
  }
  for (const PlanField& field : more) fields += concat(field.name, ": ", field.value, "\n");

  detail::SummedFile file(path);
  file.write(detail::state_magic.data(), detail::state_magic.size());
  file.number(detail::state_version);
  file.number(static_cast<std::uint32_t>(fields.size()));
  file.number(snapshot.length());
  file.number(snapshot.written());
  file.number(static_cast<std::int64_t>(tokens.size()));
  file.number(static_cast<std::int64_t>(snapshot.bytes()));
  file.write(fields.data(), fields.size());
  file.write(tokens.data(), tokens.size_bytes());
  file.write(snapshot.rows().data(), snapshot.bytes());
  file.commit();
}

/// A state file, open and whole: magic, version, size and checksum are right. Whether it is a
/// state of this plan is asked by snapshot().
class StateFile {
 public:
  /// Throws Error if it is no state file, of another version, cut short or damaged.
  explicit StateFile(const std::string& path) : file_(path) {
    ByteReader reader(file_.bytes(), file_.path());
    const auto text = [](const std::byte* data, std::size_t size) {
      return std::string_view(reinterpret_cast<const char*>(data), size);
    };
    const std::string_view start =
        text(file_.bytes().data(), std::min(file_.bytes().size(), detail::state_magic.size()));
    require(detail::state_magic.starts_with(start), path, " is no state file of kvring");
    reader.take(detail::state_magic.size(), 1, "magic");
    const auto version = reader.number<std::uint32_t>("version");
    require(version == detail::state_version, path, " is a state file of version ", version,
            "; this program reads version ", detail::state_version);
    const auto field_bytes = reader.number<std::uint32_t>("length of the fields");
    length_ = reader.number<std::int64_t>("positions held");
    written_ = reader.number<std::int64_t>("positions written");
    const auto tokens = reader.number<std::uint64_t>("count of tokens");
    const auto bytes = reader.number<std::uint64_t>("length of the values");
    parse_fields(text(reader.take(field_bytes, 1, "fields"), field_bytes));
    const std::byte* ids = reader.take(tokens, sizeof(std::int32_t), "tokens");
    tokens_.resize(static_cast<std::size_t>(tokens));
    if (tokens > 0) std::memcpy(tokens_.data(), ids, tokens_.size() * sizeof(std::int32_t));
    values_ = {reader.take(bytes, 1, "values"), static_cast<std::size_t>(bytes)};
    Xxh64 sum;
    sum.add(file_.bytes().data(), reader.position());
    const auto stored = reader.number<std::uint64_t>("checksum");
    require(reader.left() == 0, path, " is damaged: ", reader.left(), " bytes follow its end");
    require(sum.value() == stored, path, " is damaged: its checksum does not fit its bytes");
    require(length_ >= 0 && length_ <= std::ssize(tokens_), path, " holds ", length_,
            " positions, but ", tokens_.size(), " tokens");
  }

  const std::string& path() const { return file_.path(); }
  /// The text: the first length() are appended, the others not yet.
  std::span<const std::int32_t> tokens() const { return tokens_; }
  std::int64_t length() const { return length_; }
  std::int64_t written() const { return written_; }

  /// In which fields the file differs from a plan and `more`: empty, or "name is A in the file, B
  /// here" for each.
  template <class PlanType>
  std::string differences(std::span<const PlanField> more = {}) const {
    std::vector<PlanField> here = plan_fields<PlanType>();
    here.insert(here.end(), more.begin(), more.end());
    std::string text;
    const auto differ = [&](const std::string& name, const std::string& file,
                            const std::string& type) {
      text += concat(text.empty() ? "" : "; ", printable(name), " is ", printable(file),
                     " in the file, ", type, " here");
    };
    for (const PlanField& field : here) {
      const PlanField* stored = find(fields_, field.name);
      if (stored == nullptr) differ(field.name, "absent", field.value);
      if (stored != nullptr && stored->value != field.value) {
        differ(field.name, stored->value, field.value);
      }
    }
    for (const PlanField& field : fields_) {
      if (find(here, field.name) == nullptr) differ(field.name, field.value, "absent");
    }
    return text;
  }

  template <class PlanType>
  void require_plan(std::span<const PlanField> more = {}) const {
    const std::string text = differences<PlanType>(more);
    require(text.empty(), path(), " is the state of another model: ", text);
  }

  /// What the file holds, for caches of this plan. Throws Error, with each differing field and both
  /// values, if it is another's.
  template <class PlanType>
  Snapshot<PlanType> snapshot(std::span<const PlanField> more = {}) const {
    require_plan<PlanType>(more);
    using Element = typename PlanType::Element;
    require(values_.size() % sizeof(Element) == 0, path(), " holds ", values_.size(),
            " bytes of values, no whole number of ", element_name<Element>);
    std::vector<Element> rows(values_.size() / sizeof(Element));
    if (!rows.empty()) std::memcpy(rows.data(), values_.data(), values_.size());
    return {length_, written_, std::move(rows)};
  }

 private:
  static const PlanField* find(const std::vector<PlanField>& fields, const std::string& name) {
    for (const PlanField& field : fields) {
      if (field.name == name) return &field;
    }
    return nullptr;
  }

  void parse_fields(std::string_view text) {
    while (!text.empty()) {
      const std::string_view line = text.substr(0, text.find('\n'));
      text.remove_prefix(std::min(line.size() + 1, text.size()));
      const std::size_t colon = std::min(line.find(": "), line.size());
      fields_.push_back({std::string(line.substr(0, colon)),
                         std::string(line.substr(std::min(colon + 2, line.size())))});
    }
  }

  MappedFile file_;
  std::int64_t length_ = 0, written_ = 0;
  std::vector<PlanField> fields_;
  std::vector<std::int32_t> tokens_;
  std::span<const std::byte> values_;
};

}  // namespace kvring
