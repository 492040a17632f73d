// Chat templates: the turns of a conversation as the text that a model was trained on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kvring/error.hpp"
#include "kvring/io/unicode.hpp"
#include "kvring/io/vocabulary.hpp"

namespace kvring {

/// gemma: Gemma 1 to 3. chatml: <|im_start|> and <|im_end|>, as Qwen has them. smollm2: chatml,
/// with SmolLM2's system turn in front of a conversation that has none.
enum class ChatTemplate : std::uint8_t { gemma, chatml, smollm2 };

enum class ChatRole : std::uint8_t { system, user, assistant };

struct ChatTurn {
  ChatRole role;
  std::string_view text;
};

/// The special tokens that open and close a turn. A model ends its answer with the second.
struct ChatMarkers {
  std::string_view start, stop;
};
constexpr ChatMarkers chat_markers(ChatTemplate chat) {
  return chat == ChatTemplate::gemma ? ChatMarkers{"<start_of_turn>", "<end_of_turn>"}
                                     : ChatMarkers{"<|im_start|>", "<|im_end|>"};
}

/// The id at which to stop generating. Throws Error if the vocabulary doesn't have both markers as
/// special tokens: the model can't have been trained on this template.
inline TokenId chat_stop(ChatTemplate chat, const Vocabulary& vocabulary) {
  const auto special = [&](std::string_view text) {
    const auto id = vocabulary.find(text);
    require(id.has_value(), "the vocabulary has no token ", text,
            ", which the chat template needs");
    const TokenKind kind = vocabulary.kind(*id);
    require(kind == TokenKind::control || kind == TokenKind::user_defined, "token ", *id, ", ",
            text, ", is no special token, as the chat template needs it");
    return *id;
  };
  special(chat_markers(chat).start);
  return special(chat_markers(chat).stop);
}

namespace detail {

constexpr std::string_view smollm2_system =
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

// `text` without the white space at its ends.
constexpr std::string_view trim(std::string_view text) {
  std::size_t begin = text.size(), end = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Character c = front_character(text.substr(at));
    if (c.kind != CharClass::space) {
      if (end == 0) begin = at;
      end = at + c.bytes;
    }
    at += c.bytes;
  }
  return text.substr(begin, end - begin);
}

// A turn whose text closes it would let that text speak as someone else.
inline void check_turns(ChatMarkers markers, std::span<const ChatTurn> turns) {
  require(!turns.empty(), "a chat needs at least one turn");
  for (std::size_t i = 0; i < turns.size(); ++i) {
    for (const std::string_view marker : {markers.start, markers.stop}) {
      require(turns[i].text.find(marker) == std::string_view::npos, "the text of turn ", i,
              " of the chat holds ", marker, ", which only the template may write");
    }
  }
}

inline std::string gemma_prompt(ChatMarkers markers, std::span<const ChatTurn> turns) {
  std::string out, system;
  const std::size_t first = turns.front().role == ChatRole::system ? 1 : 0;
  if (first == 1) system = concat(turns.front().text, "\n\n");
  require(turns.size() > first,
          "a chat of Gemma needs a turn of the user: its system turn only "
          "begins that");
  for (std::size_t i = first; i < turns.size(); ++i) {
    const bool user = (i - first) % 2 == 0;
    require(turns[i].role == (user ? ChatRole::user : ChatRole::assistant),
            "a chat of Gemma alternates between user and assistant: turn ", i, " is not the ",
            user ? "user" : "assistant", "'s");
    out += concat(markers.start, user ? "user\n" : "model\n", i == first ? system : "",
                  trim(turns[i].text), markers.stop, "\n");
  }
  return out + concat(markers.start, "model\n");
}

inline std::string chatml_prompt(ChatMarkers markers, std::span<const ChatTurn> turns,
                                 std::string_view default_system) {
  constexpr std::string_view names[] = {"system", "user", "assistant"};
  std::string out;
  const auto put = [&](ChatRole role, std::string_view text) {
    out += concat(markers.start, names[static_cast<std::size_t>(role)], "\n", text, markers.stop,
                  "\n");
  };
  if (!default_system.empty() && turns.front().role != ChatRole::system) {
    put(ChatRole::system, default_system);
  }
  for (const ChatTurn& turn : turns) put(turn.role, turn.text);
  return out + concat(markers.start, "assistant\n");
}

}  // namespace detail

/// The prompt that asks for the next answer of the assistant, without the token in front, which
/// Tokenizer::encode adds. Gemma has no system turn: what it would say begins the user's first.
/// Throws Error if there is no turn, if a text holds a marker, or if the roles are in an order that
/// the template has no words for.
inline std::string chat_prompt(ChatTemplate chat, std::span<const ChatTurn> turns) {
  const ChatMarkers markers = chat_markers(chat);
  detail::check_turns(markers, turns);
  if (chat == ChatTemplate::gemma) return detail::gemma_prompt(markers, turns);
  return detail::chatml_prompt(markers, turns,
                               chat == ChatTemplate::smollm2 ? detail::smollm2_system : "");
}

}  // namespace kvring
