// BpeTokenizer: the byte-level BPE tokenizer of GPT-2, Llama 3, Qwen and SmolLM (GGUF: "gpt2").
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kvring/error.hpp"
#include "kvring/io/gguf.hpp"
#include "kvring/io/pre_tokenizer.hpp"
#include "kvring/io/printable.hpp"
#include "kvring/io/tokenizer.hpp"
#include "kvring/io/unicode.hpp"
#include "kvring/io/vocabulary.hpp"

namespace kvring {

/// How byte-level vocabularies spell a byte: as itself if Latin-1 prints it, else as one of the 68
/// characters from U+0100, in order. A space is U+0120, a line feed U+010A.
constexpr char32_t byte_to_char(unsigned char byte) {
  if (byte <= 0x20) return 0x100u + byte;
  if (byte >= 0x7f && byte <= 0xa0) return 0x121u + (byte - 0x7fu);
  return byte == 0xad ? 0x143u : byte;
}
/// The byte that `code` spells, or -1.
constexpr int char_to_byte(char32_t code) {
  for (const unsigned from : {0x100u, 0x121u - 0x7fu, 0x143u - 0xadu, 0u}) {
    const std::uint32_t byte = code - from;
    if (byte < 256 && byte_to_char(static_cast<unsigned char>(byte)) == code) {
      return static_cast<int>(byte);
    }
  }
  return -1;
}

/// A text is cut into pieces, and each piece starts as its bytes. Again and again, of all adjacent
/// pairs that the file's list of merges names, the one named first (of equals the leftmost) becomes
/// one token. Under llama_bpe, a piece that is a token is taken whole instead. Nothing is
/// normalised, and no byte is lost: one without a token is refused.
class BpeTokenizer final : public Tokenizer {
 public:
  /// Throws Error if the file lacks a key, holds a token or a merge that no text can lead to, or
  /// wants what is not supported.
  explicit BpeTokenizer(const GgufFile& file) : BpeTokenizer(file, read_pre(file)) {}

  PreTokenizer pre_tokenizer() const { return pre_; }

 private:
  static constexpr TokenId none = -1;

  // A stretch of a piece, in a doubly linked list; length 0 once merged into its left neighbour.
  struct Symbol {
    std::int32_t length, left, right;
    TokenId id;
  };

  // Two neighbours that a merge names. It is stale if either has changed: `length` tells.
  struct Merge {
    std::int32_t rank, left, right, length;
    bool operator<(const Merge& other) const {
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };

  BpeTokenizer(const GgufFile& file, PreTokenizer pre)
      : Tokenizer(Vocabulary(file, pre == PreTokenizer::llama_bpe)), pre_(pre) {
    for (const std::string_view key :
         {"tokenizer.ggml.add_space_prefix", "tokenizer.ggml.add_eos_token"}) {
      require(!file.has(key) || !file.boolean(key), file.path(), ": ", key,
              " is true, supported: false");
    }
    for (TokenId id = 0; static_cast<std::size_t>(id) < vocabulary().size(); ++id) {
      check_token(file, id);
    }
    for (std::size_t byte = 0; byte < 256; ++byte) {
      byte_ids_[byte] = token(spell(static_cast<char>(byte)));
    }
    read_merges(file);
  }

  static PreTokenizer read_pre(const GgufFile& file) {
    const std::string_view name = file.string("tokenizer.ggml.pre");
    if (const auto found = find_pre_tokenizer(name)) return *found;
    std::string known;
    for (const PreTokenizerName& each : pre_tokenizers) {
      known += known.empty() ? "" : ", ";
      known += each.name;
    }
    fail(file.path(), ": tokenizer.ggml.pre is ", printable(name), ", supported: ", known);
  }

  void check_token(const GgufFile& file, TokenId id) const {
    const TokenKind kind = vocabulary().kind(id);
    require(kind != TokenKind::byte, file.path(), ": token ", id,
            " is a byte token, which a byte-level vocabulary has no use for");
    if (!plain(kind)) return;
    for (std::string_view text = vocabulary().text(id); !text.empty();) {
      const Character c = front_character(text);
      require(char_to_byte(c.code) >= 0, file.path(), ": token ", id, " is spelled ",
              printable(vocabulary().text(id)), ", of which ", printable(text.substr(0, c.bytes)),
              " stands for no byte");
      text.remove_prefix(c.bytes);
    }
  }

  void read_merges(const GgufFile& file) {
    const auto merges = file.strings("tokenizer.ggml.merges");
    require(merges.size() <= most_merges, file.path(), ": ", merges.size(), " merges, at most ",
            most_merges, " are supported");
    ranks_.reserve(merges.size());
    merged_.reserve(merges.size());
    std::string whole;
    for (const std::string_view merge : merges) {
      const auto rank = static_cast<std::int32_t>(merged_.size());
      const auto where = [&] {
        return concat(file.path(), ": merge ", rank, ", ", printable(merge), ": ");
      };
      const std::size_t space = merge.find(' ');
      if (space == std::string_view::npos || merge.find(' ', space + 1) != std::string_view::npos) {
        fail(where(), "wanted two tokens with one space between them");
      }
      whole.assign(merge.substr(0, space)).append(merge.substr(space + 1));
      const auto id_of = [&](std::string_view text) {
        const TokenId id = token(text);
        if (id == none) fail(where(), printable(text), " is no token that text may become");
        return id;
      };
      const TokenId left = id_of(merge.substr(0, space)), right = id_of(merge.substr(space + 1));
      merged_.push_back(id_of(whole));
      const auto [entry, fresh] = ranks_.emplace(pair(left, right), rank);
      if (!fresh) fail(where(), "it is merge ", entry->second, " as well");
    }
  }

  static bool plain(TokenKind kind) {
    return kind == TokenKind::normal || kind == TokenKind::unused;
  }
  // The token that merging may make, of its spelling, or none.
  TokenId token(std::string_view spelling) const {
    const auto id = vocabulary().find(spelling);
    return id && plain(vocabulary().kind(*id)) ? *id : none;
  }

  static std::string spell(std::string_view bytes) {
    std::string out;
    out.reserve(2 * bytes.size());
    for (const char byte : bytes) {
      const char32_t code = byte_to_char(static_cast<unsigned char>(byte));
      if (code < 0x80) {
        out += static_cast<char>(code);
      } else {
        out += {static_cast<char>(0xc0u | code >> 6), static_cast<char>(0x80u | (code & 0x3fu))};
      }
    }
    return out;
  }
  static std::string spell(char byte) { return spell(std::string_view(&byte, 1)); }

  static std::uint64_t pair(TokenId left, TokenId right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }

  TokenId byte_id(char byte) const {
    const TokenId id = byte_ids_[static_cast<unsigned char>(byte)];
    if (id == none) {
      fail("the text holds the byte ", hex(byte), ", for which the vocabulary has no token");
    }
    return id;
  }
  static std::string hex(char byte) {
    constexpr char digits[] = "0123456789abcdef";
    const auto value = static_cast<unsigned char>(byte);
    return {'0', 'x', digits[value / 16], digits[value % 16]};
  }

  void encode_plain(std::string_view text, std::vector<TokenId>& out) const override {
    std::vector<Symbol> symbols;
    while (!text.empty()) {
      const std::string_view piece = text.substr(0, first_piece(pre_, text));
      text.remove_prefix(piece.size());
      const TokenId whole = pre_ == PreTokenizer::llama_bpe ? token(spell(piece)) : none;
      if (whole != none) {
        out.push_back(whole);
      } else {
        merge(piece, symbols, out);
      }
    }
  }

  void merge(std::string_view piece, std::vector<Symbol>& symbols,
             std::vector<TokenId>& out) const {
    require(piece.size() <= std::size_t{std::numeric_limits<std::int32_t>::max()}, "a word of ",
            piece.size(), " bytes is too long to encode");
    symbols.clear();
    for (const char byte : piece) {
      const auto here = static_cast<std::int32_t>(symbols.size());
      symbols.push_back({1, here - 1, here + 1, byte_id(byte)});
    }
    symbols.back().right = none;
    const auto symbol = [&](std::int32_t i) -> Symbol& {
      return symbols[static_cast<std::size_t>(i)];
    };
    std::priority_queue<Merge> queue;
    const auto propose = [&](std::int32_t left, std::int32_t right) {
      if (left < 0 || right < 0) return;
      const auto found = ranks_.find(pair(symbol(left).id, symbol(right).id));
      if (found == ranks_.end()) return;
      queue.push({found->second, left, right, symbol(left).length + symbol(right).length});
    };
    for (std::size_t i = 1; i < symbols.size(); ++i) {
      propose(static_cast<std::int32_t>(i - 1), static_cast<std::int32_t>(i));
    }
    while (!queue.empty()) {
      const Merge best = queue.top();
      queue.pop();
      Symbol& left = symbol(best.left);
      Symbol& right = symbol(best.right);
      if (left.length == 0 || right.length == 0 || left.length + right.length != best.length) {
        continue;
      }
      left.length = best.length;
      left.id = merged_[static_cast<std::size_t>(best.rank)];
      left.right = right.right;
      right.length = 0;
      if (left.right >= 0) symbol(left.right).left = best.left;
      propose(left.left, best.left);
      propose(best.left, left.right);
    }
    for (const Symbol& each : symbols) {
      if (each.length != 0) out.push_back(each.id);
    }
  }

  void append_plain(TokenId id, std::string& out) const override {
    for (std::string_view text = vocabulary().text(id); !text.empty();) {
      const Character c = front_character(text);
      out += static_cast<char>(char_to_byte(c.code));
      text.remove_prefix(c.bytes);
    }
  }

  static constexpr std::size_t most_merges = 1u << 30;

  PreTokenizer pre_;
  std::array<TokenId, 256> byte_ids_{};                    // none where the vocabulary has none
  std::unordered_map<std::uint64_t, std::int32_t> ranks_;  // of the pairs that merge
  std::vector<TokenId> merged_;                            // [ranks] what they become
};

}  // namespace kvring
