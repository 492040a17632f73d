// PreTokenizer: cuts text into the pieces that byte-pair merges never cross.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "kvring/config.hpp"
#include "kvring/io/unicode.hpp"

namespace kvring {

/// Each cuts as a regular expression does, whose first alternative that matches is taken.
///
///   llama_bpe  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}
///              | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
///   qwen2      the same with \p{N} for \p{N}{1,3}
///   smollm     first each \p{N} by itself, then what is left between them by GPT-2's
///              's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
enum class PreTokenizer : std::uint8_t { smollm, llama_bpe, qwen2 };

struct PreTokenizerName {
  PreTokenizer kind;
  std::string_view name;
};
/// As GGUF's `tokenizer.ggml.pre` spells them.
inline constexpr std::array pre_tokenizers{
    PreTokenizerName{PreTokenizer::smollm, "smollm"},
    PreTokenizerName{PreTokenizer::llama_bpe, "llama-bpe"},
    PreTokenizerName{PreTokenizer::qwen2, "qwen2"},
};

constexpr std::optional<PreTokenizer> find_pre_tokenizer(std::string_view name) {
  for (const PreTokenizerName& each : pre_tokenizers) {
    if (each.name == name) return each.kind;
  }
  return std::nullopt;
}

namespace detail {

constexpr bool is_newline(const Character& c) { return c.code == '\r' || c.code == '\n'; }

// Bytes of the characters at the front of `text`, at most `most`, that are `wanted`.
template <class Wanted>
constexpr std::size_t run_of(std::string_view text, Wanted wanted, int most = 0) {
  std::size_t bytes = 0;
  for (int count = 1; bytes < text.size(); ++count) {
    const Character c = front_character(text.substr(bytes));
    if (!wanted(c)) break;
    bytes += c.bytes;
    if (count == most) break;
  }
  return bytes;
}
constexpr std::size_t run_of(std::string_view text, CharClass kind, int most = 0) {
  return run_of(
      text, [kind](const Character& c) { return c.kind == kind; }, most);
}

// Bytes of the English ending at the front of `text`, or 0. Whoever ignores case takes U+017F, the
// long s, for an s: Unicode's folding says so.
constexpr std::size_t contraction(std::string_view text, bool ignore_case) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const auto letter = [&](std::size_t i) {
    if (i >= text.size()) return '\0';
    const char c = text[i];
    return ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  const char a = letter(1), b = letter(2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
  return ignore_case && text.substr(1).starts_with("\xc5\xbf") ? 3 : 0;
}

// \s+(?!\S)|\s+ on `run`, the white space at the front of a text: the last character is left to the
// word behind it, if there is a word, and if it is not all there is.
constexpr std::size_t spaces(std::string_view run, bool before_word) {
  if (!before_word) return run.size();
  std::size_t last = 0;
  for (std::size_t at = 0; at < run.size(); at += front_character(run.substr(at)).bytes) last = at;
  return last == 0 ? run.size() : last;
}

constexpr std::size_t smollm_piece(std::string_view text) {
  if (const std::size_t n = contraction(text, false)) return n;
  const Character first = front_character(text);
  if (first.kind == CharClass::number) return first.bytes;
  const std::size_t lead = first.code == ' ' ? 1 : 0;
  for (const CharClass kind : {CharClass::letter, CharClass::other}) {
    if (const std::size_t n = run_of(text.substr(lead), kind)) return lead + n;
  }
  const std::size_t run = run_of(text, CharClass::space);
  // A number is cut out first, so in front of one, too, the text ends.
  const bool before_word =
      run < text.size() && front_character(text.substr(run)).kind != CharClass::number;
  return spaces(text.substr(0, run), before_word);
}

constexpr std::size_t llama_piece(std::string_view text, int most_digits) {
  if (const std::size_t n = contraction(text, true)) return n;
  const Character first = front_character(text);
  const bool leads =
      first.kind != CharClass::number && first.kind != CharClass::letter && !is_newline(first);
  std::size_t lead = leads ? first.bytes : 0;
  if (const std::size_t n = run_of(text.substr(lead), CharClass::letter)) return lead + n;
  if (first.kind == CharClass::number) return run_of(text, CharClass::number, most_digits);
  lead = first.code == ' ' ? 1 : 0;
  if (std::size_t n = run_of(text.substr(lead), CharClass::other)) {
    n += lead;
    return n + run_of(text.substr(n), is_newline);
  }
  const std::size_t run = run_of(text, CharClass::space);
  const std::size_t newline = text.substr(0, run).find_last_of("\r\n");
  if (newline != std::string_view::npos) return newline + 1;
  return spaces(text.substr(0, run), run < text.size());
}

}  // namespace detail

/// Bytes of the first piece of `text`, which must not be empty. What follows is cut the same way.
constexpr std::size_t first_piece(PreTokenizer kind, std::string_view text) {
  switch (kind) {
    case PreTokenizer::llama_bpe:
      return detail::llama_piece(text, 3);
    case PreTokenizer::qwen2:
      return detail::llama_piece(text, 1);
    default:
      return detail::smollm_piece(text);
  }
}

}  // namespace kvring
