// SpecialTokens: finds the tokens that a text spells out in full.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kvring/io/vocabulary.hpp"

namespace kvring {

/// A stretch of text: one special token, or plain text for the tokenizer proper.
struct TextPart {
  static constexpr TokenId plain = -1;
  std::string_view text;
  TokenId id = plain;
};

/// The control, user-defined and unknown tokens of a vocabulary, which must outlive this object and
/// not move.
class SpecialTokens {
 public:
  explicit SpecialTokens(const Vocabulary& vocabulary) {
    for (TokenId id = 0; static_cast<std::size_t>(id) < vocabulary.size(); ++id) {
      const TokenKind kind = vocabulary.kind(id);
      if (kind == TokenKind::control || kind == TokenKind::user_defined ||
          kind == TokenKind::unknown) {
        by_length_.push_back({vocabulary.text(id), id});
      }
    }
    std::stable_sort(by_length_.begin(), by_length_.end(),
                     [](const auto& a, const auto& b) { return a.text.size() > b.text.size(); });
    for (std::size_t rank = 0; rank < by_length_.size(); ++rank) {
      const std::string_view text = by_length_[rank].text;
      ranks_.emplace(text, rank);
      auto& lengths = lengths_[first_byte(text)];
      if (lengths.empty() || lengths.back() != text.size()) lengths.push_back(text.size());
    }
  }

  /// Cuts `text` into parts, none of them empty. The longest special token that occurs anywhere is
  /// cut out first, wherever it occurs from left to right; then the next in what remains; among
  /// equally long ones the lowest id.
  std::vector<TextPart> split(std::string_view text) const {
    std::vector<TextPart> parts, next;
    if (!text.empty()) parts.push_back({text});
    const std::vector<bool> occurs = occurring(text);
    for (std::size_t rank = 0; rank < occurs.size(); ++rank) {
      if (!occurs[rank]) continue;
      next.clear();
      for (const TextPart& part : parts) {
        if (part.id == TextPart::plain) {
          cut(part.text, by_length_[rank], next);
        } else {
          next.push_back(part);
        }
      }
      std::swap(parts, next);
    }
    return parts;
  }

 private:
  static std::size_t first_byte(std::string_view text) {
    return static_cast<unsigned char>(text.front());
  }

  // For each special token, by rank, whether `text` contains it: one pass over the text, whatever
  // the number of tokens.
  std::vector<bool> occurring(std::string_view text) const {
    std::vector<bool> out(by_length_.size());
    for (; !text.empty(); text.remove_prefix(1)) {
      for (const std::size_t length : lengths_[first_byte(text)]) {
        const auto found = ranks_.find(text.substr(0, length));
        if (found != ranks_.end()) out[found->second] = true;
      }
    }
    return out;
  }

  static void cut(std::string_view text, const TextPart& token, std::vector<TextPart>& out) {
    while (!text.empty()) {
      const std::size_t at = text.find(token.text);
      if (at != 0) out.push_back({text.substr(0, at)});
      if (at == std::string_view::npos) return;
      out.push_back(token);
      text.remove_prefix(at + token.text.size());
    }
  }

  std::vector<TextPart> by_length_;  // longest first
  std::unordered_map<std::string_view, std::size_t> ranks_;
  std::array<std::vector<std::size_t>, 256> lengths_;  // of the tokens that begin with a byte
};

}  // namespace kvring
