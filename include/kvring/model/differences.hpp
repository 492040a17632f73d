// Differences: the fields in which a file and a model type differ.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "kvring/error.hpp"
#include "kvring/io/printable.hpp"

namespace kvring::detail {

/// Collects sentences, one for each field and pair of values.
class Differences {
 public:
  template <class T>
  using Maybe = std::optional<T>;
  using Layer = Maybe<std::size_t>;

  const std::string& text() const { return text_; }

  static std::string show(std::int64_t value) { return std::to_string(value); }
  static std::string show(bool value) { return value ? "true" : "false"; }
  static std::string show(const std::string& value) { return printable(value); }
  static std::string show(float value) { return shortest(value); }
  static std::string show(double value) { return shortest(value); }

  /// A difference that many layers have is noted once, for the first.
  void differ(std::string_view field, std::string_view in_file, std::string_view in_type,
              Layer layer = {}) {
    if (!seen_.emplace(field, in_file, in_type).second) return;
    text_ += concat(text_.empty() ? "" : "; ", field,
                    layer ? concat(" (layer ", *layer, ")") : std::string(), " is ", in_file,
                    " in the file and ", in_type, " in the type");
  }

  /// Compares what the file states, or else what it means by stating nothing, with the type.
  template <class T>
  void compare(std::string_view field, const Maybe<T>& stated, const Maybe<T>& otherwise,
               const std::type_identity_t<T>& in_type, Layer layer = {}) {
    if ((stated ? stated : otherwise) == in_type) return;
    std::string in_file = "absent";
    if (stated) {
      in_file = show(*stated);
    } else if (otherwise) {
      in_file = show(*otherwise) + " (by default)";
    }
    differ(field, in_file, show(in_type), layer);
  }

 private:
  template <class T>
  static std::string shortest(T value) {  // in as few digits as name it
    std::array<char, 32> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    return {digits.data(), end};
  }

  std::string text_;
  std::set<std::tuple<std::string, std::string, std::string>> seen_;
};

}  // namespace kvring::detail
