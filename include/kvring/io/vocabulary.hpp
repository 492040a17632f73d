// Vocabulary: the tokens of a GGUF file, as text and kind, with the ids that mean something.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kvring/error.hpp"
#include "kvring/io/gguf.hpp"
#include "kvring/io/printable.hpp"

namespace kvring {

/// Index of a token in its vocabulary.
using TokenId = std::int32_t;

/// What a token is; the numbers are GGUF's `tokenizer.ggml.token_type`.
enum class TokenKind : std::uint8_t {
  normal = 1,
  unknown = 2,
  control = 3,       // steers the model and is no text: <bos>, <end_of_turn>
  user_defined = 4,  // text that is always one token: runs of spaces, HTML tags
  unused = 5,
  byte = 6,  // <0xNN>: one byte of what no other token covers
};

/// Owns copies of the tokens' texts; the file may be closed. Movable, not copyable.
class Vocabulary {
 public:
  /// Reads and checks the keys that every tokenizer has. Throws Error with the key if one is
  /// missing, has another type or another length, or holds an id or a kind out of range; and if two
  /// tokens have the same text, or a token has none. `add_bos_if_missing`: what a file means that
  /// doesn't say; by default it must.
  explicit Vocabulary(const GgufFile& file, std::optional<bool> add_bos_if_missing = std::nullopt) {
    const auto texts = file.strings("tokenizer.ggml.tokens");
    const auto kinds = file.i64s("tokenizer.ggml.token_type");
    require_length(file, "tokenizer.ggml.token_type", kinds.size(), texts.size());
    require(texts.size() <= most, file.path(), ": ", texts.size(), " tokens, at most ", most,
            " are supported");
    std::size_t bytes = 0;
    for (const std::string_view text : texts) bytes += text.size();
    arena_.reserve(bytes);
    texts_.reserve(texts.size());
    kinds_.reserve(texts.size());
    ids_.reserve(texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i) add(texts[i], kinds[i]);
    bos_ = special(file, "tokenizer.ggml.bos_token_id");
    eos_ = special(file, "tokenizer.ggml.eos_token_id");
    const std::string_view eot = "tokenizer.ggml.eot_token_id";
    if (file.has(eot)) eot_ = special(file, eot);
    const std::string_view add_bos = "tokenizer.ggml.add_bos_token";
    add_bos_ =
        add_bos_if_missing && !file.has(add_bos) ? *add_bos_if_missing : file.boolean(add_bos);
  }
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  std::size_t size() const { return texts_.size(); }
  TokenId bos() const { return bos_; }
  TokenId eos() const { return eos_; }
  /// What ends a turn of a chat, where the file names a token for it: generation ends there too.
  std::optional<TokenId> eot() const { return eot_; }
  /// Whether the file wants every text to begin with bos().
  bool add_bos() const { return add_bos_; }

  /// The token as the file spells it. Throws Error if `id` is not in the vocabulary.
  std::string_view text(TokenId id) const { return texts_[checked(id)]; }
  TokenKind kind(TokenId id) const { return kinds_[checked(id)]; }

  std::optional<TokenId> find(std::string_view text) const {
    const auto found = ids_.find(text);
    if (found == ids_.end()) return std::nullopt;
    return found->second;
  }

  /// Throws Error unless an array of the file has one entry for each token.
  static void require_length(const GgufFile& file, std::string_view key, std::size_t length,
                             std::size_t tokens) {
    require(length == tokens, file.path(), ": ", key, " has ", length,
            " entries, tokenizer.ggml.tokens has ", tokens);
  }

 private:
  static constexpr std::size_t most = 1u << 30;

  std::size_t checked(TokenId id) const {
    require(id >= 0 && static_cast<std::size_t>(id) < size(), "token id ", id,
            " is not in the vocabulary, which has ", size(), " tokens");
    return static_cast<std::size_t>(id);
  }

  void add(std::string_view text, std::int64_t kind) {
    const auto id = static_cast<TokenId>(size());
    require(!text.empty(), "token ", id, " of the vocabulary has no text");
    require(kind >= 1 && kind <= 6, "token ", id, " of the vocabulary has unknown kind ", kind,
            ", wanted 1 to 6");
    const std::size_t begin = arena_.size();
    arena_.insert(arena_.end(), text.begin(), text.end());  // stays in place: all was reserved
    texts_.emplace_back(arena_.data() + begin, text.size());
    kinds_.push_back(static_cast<TokenKind>(kind));
    const auto [entry, fresh] = ids_.emplace(texts_.back(), id);
    require(fresh, "tokens ", entry->second, " and ", id, " of the vocabulary have the same text, ",
            printable(text));
  }

  TokenId special(const GgufFile& file, std::string_view key) const {
    const std::uint64_t id = file.u64(key);
    require(id < size(), file.path(), ": ", key, " is ", id, ", the vocabulary has ", size(),
            " tokens");
    return static_cast<TokenId>(id);
  }

  std::vector<char> arena_;  // unlike a string, a moved vector keeps its address
  std::vector<std::string_view> texts_;
  std::vector<TokenKind> kinds_;
  std::unordered_map<std::string_view, TokenId> ids_;
  TokenId bos_ = 0, eos_ = 0;
  std::optional<TokenId> eot_;
  bool add_bos_ = false;
};

}  // namespace kvring
