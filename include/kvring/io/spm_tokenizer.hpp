// SpmTokenizer: the SentencePiece-style tokenizer of Gemma and Llama 2 (GGUF calls it "llama").
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <queue>
#include <string>
#include <string_view>
#include <vector>

#include "kvring/error.hpp"
#include "kvring/io/gguf.hpp"
#include "kvring/io/printable.hpp"
#include "kvring/io/tokenizer.hpp"
#include "kvring/io/utf8.hpp"
#include "kvring/io/vocabulary.hpp"

namespace kvring {

/// A text starts as its characters, spaces as U+2581. Again and again, of all adjacent pairs that
/// together are a token, the one with the highest score (of equals the leftmost) becomes that
/// token. A character that is no token, and a byte that is no UTF-8, become byte tokens. U+2581
/// itself can't be told from a space: it decodes as one.
class SpmTokenizer final : public Tokenizer {
 public:
  /// Throws Error if the file lacks a key, a byte token, or wants what is not supported.
  explicit SpmTokenizer(const GgufFile& file)
      : Tokenizer(Vocabulary(file)), scores_(file.f32s("tokenizer.ggml.scores")) {
    Vocabulary::require_length(file, "tokenizer.ggml.scores", scores_.size(), vocabulary().size());
    refuse_flag(file, "tokenizer.ggml.add_space_prefix", true);
    refuse_flag(file, "tokenizer.ggml.add_eos_token", false);
    byte_ids_.fill(none);
    for (TokenId id = 0; static_cast<std::size_t>(id) < vocabulary().size(); ++id) {
      require(!std::isnan(scores_[index(id)]), file.path(), ": token ", id, " has score NaN");
      if (vocabulary().kind(id) == TokenKind::byte) {
        byte_ids_[byte_value(id)] = id;
      } else {
        longest_ = std::max(longest_, vocabulary().text(id).size());
      }
    }
    // Without it a space would become the bytes of U+2581, and never a space again.
    require(plain_token(space) != none, file.path(),
            ": the vocabulary has no token for the space, ", "U+2581");
    for (std::size_t byte = 0; byte < 256; ++byte) {
      require(byte_ids_[byte] != none, file.path(), ": the vocabulary has no token for byte ", byte,
              "; all 256 are needed, as <0x00> to <0xFF>");
    }
  }

 private:
  static constexpr TokenId none = -1;
  static constexpr std::string_view space = "\xe2\x96\x81";  // U+2581

  // A stretch of the escaped text, in a doubly linked list; length 0 once merged into its left
  // neighbour. id: the token that it is, or none.
  struct Symbol {
    std::int32_t begin, length, left, right;
    TokenId id;
  };

  // Two neighbours that would be token `id`. It is stale if either has changed: `length` tells.
  struct Merge {
    float score;
    std::int32_t left, right, length;
    TokenId id;
    bool operator<(const Merge& other) const {
      return score != other.score ? score < other.score : left > other.left;
    }
  };

  static std::size_t index(TokenId id) { return static_cast<std::size_t>(id); }

  static void refuse_flag(const GgufFile& file, std::string_view key, bool if_missing) {
    const bool value = file.has(key) ? file.boolean(key) : if_missing;
    require(!value, file.path(), ": ", key, " is true", file.has(key) ? "" : " (by default)",
            ", supported: false");
  }

  std::size_t byte_value(TokenId id) const {
    const std::string_view text = vocabulary().text(id);
    const auto digit = [](char c) {
      return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    };
    const bool shaped = text.size() == 6 && text.starts_with("<0x") && text.ends_with('>') &&
                        digit(text[3]) >= 0 && digit(text[4]) >= 0;
    require(shaped, "byte token ", id, " is spelled ", printable(text),
            ", wanted <0x00> to <0xFF>");
    return static_cast<std::size_t>(digit(text[3]) * 16 + digit(text[4]));
  }

  // The token that merging may make of `text`, or none.
  TokenId plain_token(std::string_view text) const {
    if (text.size() > longest_) return none;
    const auto id = vocabulary().find(text);
    if (!id) return none;
    const TokenKind kind = vocabulary().kind(*id);
    return kind == TokenKind::normal || kind == TokenKind::unused ? *id : none;
  }

  static std::string escape(std::string_view text) {
    std::string out;
    out.reserve(text.size() + text.size() / 2);
    for (const char c : text) {
      if (c == ' ') {
        out += space;
      } else {
        out += c;
      }
    }
    return out;
  }

  std::vector<Symbol> characters(std::string_view text) const {
    std::vector<Symbol> out;
    out.reserve(text.size());
    for (std::size_t begin = 0; begin < text.size();) {
      const auto length = static_cast<std::size_t>(std::max(1, utf8_front(text.substr(begin))));
      const auto here = static_cast<std::int32_t>(out.size());
      out.push_back({static_cast<std::int32_t>(begin), static_cast<std::int32_t>(length), here - 1,
                     here + 1, plain_token(text.substr(begin, length))});
      begin += length;
    }
    if (!out.empty()) out.back().right = none;
    return out;
  }

  void encode_plain(std::string_view plain, std::vector<TokenId>& out) const override {
    const std::string text = escape(plain);
    require(text.size() <= std::size_t{std::numeric_limits<std::int32_t>::max()}, "a text of ",
            plain.size(), " bytes is too long to encode at once");
    std::vector<Symbol> symbols = characters(text);
    const auto symbol = [&](std::int32_t i) -> Symbol& {
      return symbols[static_cast<std::size_t>(i)];
    };
    std::priority_queue<Merge> queue;
    const auto propose = [&](std::int32_t left, std::int32_t right) {
      if (left < 0 || right < 0) return;
      const std::int32_t length = symbol(left).length + symbol(right).length;
      const TokenId id = plain_token(std::string_view(text).substr(
          static_cast<std::size_t>(symbol(left).begin), static_cast<std::size_t>(length)));
      if (id != none) queue.push({scores_[index(id)], left, right, length, id});
    };
    for (std::size_t i = 1; i < symbols.size(); ++i) {
      propose(static_cast<std::int32_t>(i - 1), static_cast<std::int32_t>(i));
    }
    while (!queue.empty()) {
      const Merge merge = queue.top();
      queue.pop();
      Symbol& left = symbol(merge.left);
      Symbol& right = symbol(merge.right);
      if (left.length == 0 || right.length == 0 || left.length + right.length != merge.length) {
        continue;
      }
      left.length = merge.length;
      left.id = merge.id;
      left.right = right.right;
      right.length = 0;
      if (left.right >= 0) symbol(left.right).left = merge.left;
      propose(left.left, merge.left);
      propose(merge.left, left.right);
    }
    for (const Symbol& each : symbols) {
      if (each.length == 0) continue;
      if (each.id != none) {
        out.push_back(each.id);
        continue;
      }
      for (std::int32_t i = 0; i < each.length; ++i) {
        out.push_back(
            byte_ids_[static_cast<unsigned char>(text[static_cast<std::size_t>(each.begin + i)])]);
      }
    }
  }

  void append_plain(TokenId id, std::string& out) const override {
    std::string_view text = vocabulary().text(id);
    if (vocabulary().kind(id) == TokenKind::byte) {
      out += static_cast<char>(byte_value(id));
      return;
    }
    for (std::size_t at; (at = text.find(space)) != std::string_view::npos;) {
      out += text.substr(0, at);
      out += ' ';
      text.remove_prefix(at + space.size());
    }
    out += text;
  }

  std::vector<float> scores_;          // [size]
  std::array<TokenId, 256> byte_ids_;  // of <0x00>…<0xFF>
  std::size_t longest_ = 0;            // bytes of the longest token
};

}  // namespace kvring
