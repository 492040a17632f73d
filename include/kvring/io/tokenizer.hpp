// Tokenizer: text to token ids and back. Also StreamDecoder, which decodes one id at a time.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvring/io/special_tokens.hpp"
#include "kvring/io/utf8.hpp"
#include "kvring/io/vocabulary.hpp"

namespace kvring {

/// Whether decoding spells out control tokens such as <end_of_turn>.
enum class ControlTokens { skip, show };

/// What all kinds of tokenizer share: the beginning-of-text token, and special tokens taken whole.
/// A kind of its own says how plain text becomes ids, and an id text.
class Tokenizer {
 public:
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  virtual ~Tokenizer() = default;

  const Vocabulary& vocabulary() const { return vocabulary_; }

  /// Any bytes to ids. Special tokens that the text spells out are recognised everywhere, so text
  /// that is not trusted should be searched for them first.
  std::vector<TokenId> encode(std::string_view text, bool add_bos) const {
    std::vector<TokenId> out;
    if (add_bos) out.push_back(vocabulary_.bos());
    for (const TextPart& part : special_.split(text)) {
      if (part.id == TextPart::plain) {
        encode_plain(part.text, out);
      } else {
        out.push_back(part.id);
      }
    }
    return out;
  }
  /// The same, with bos() in front if the file wants it.
  std::vector<TokenId> encode(std::string_view text) const {
    return encode(text, vocabulary_.add_bos());
  }

  /// Appends the bytes of one token, which may be part of a UTF-8 character. Throws Error if `id`
  /// is not in the vocabulary.
  void append_text(TokenId id, std::string& out,
                   ControlTokens control = ControlTokens::skip) const {
    const TokenKind kind = vocabulary_.kind(id);
    if (kind == TokenKind::user_defined) {
      out += vocabulary_.text(id);
    } else if (kind == TokenKind::control || kind == TokenKind::unknown) {
      if (control == ControlTokens::show) out += vocabulary_.text(id);
    } else {
      append_plain(id, out);
    }
  }

  /// Ids to bytes. decode(encode(x)) is x, except for control tokens in x, which are only written
  /// under ControlTokens::show, and for what the kind of tokenizer loses.
  std::string decode(std::span<const TokenId> ids,
                     ControlTokens control = ControlTokens::skip) const {
    std::string out;
    for (const TokenId id : ids) append_text(id, out, control);
    return out;
  }

 protected:
  explicit Tokenizer(Vocabulary vocabulary)
      : vocabulary_(std::move(vocabulary)), special_(vocabulary_) {}

 private:
  /// Appends the ids of a text without special tokens.
  virtual void encode_plain(std::string_view text, std::vector<TokenId>& out) const = 0;
  /// Appends the bytes of a token of kind normal, unused or byte.
  virtual void append_plain(TokenId id, std::string& out) const = 0;

  Vocabulary vocabulary_;
  SpecialTokens special_;
};

/// Decodes ids as they come and never hands out half a UTF-8 character: its beginning waits for the
/// next id. The texts, joined, are those of Tokenizer::decode, byte for byte.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, ControlTokens control = ControlTokens::skip)
      : tokenizer_(tokenizer), control_(control) {}

  /// The text that `id` completes, perhaps none.
  std::string push(TokenId id) {
    tokenizer_.append_text(id, waiting_, control_);
    std::string rest = waiting_.substr(waiting_.size() - utf8_unfinished(waiting_));
    waiting_.resize(waiting_.size() - rest.size());
    return std::exchange(waiting_, std::move(rest));
  }

  /// What still waits at the end of the ids: at most 3 bytes, no whole character.
  std::string flush() { return std::exchange(waiting_, {}); }

 private:
  const Tokenizer& tokenizer_;
  ControlTokens control_;
  std::string waiting_;
};

}  // namespace kvring
