// Chat templates against what the models' own Jinja templates render.
#include "kvring/io/chat.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "io_test.hpp"
#include "kvring/io/load_tokenizer.hpp"
#include "vocabulary_writer.hpp"

using io_test::check_refused;
using io_test::TempFile;
using io_test::VocabularyWriter;
using kvring::ChatRole;
using kvring::ChatTemplate;
using kvring::ChatTurn;
using kvring::TokenId;

namespace {

constexpr ChatRole sys = ChatRole::system, user = ChatRole::user, model = ChatRole::assistant;

std::string prompt(ChatTemplate chat, std::vector<ChatTurn> turns) {
  return kvring::chat_prompt(chat, turns);
}

}  // namespace

// Expected texts: each model's chat_template, rendered by Jinja with a generation prompt and no
// BOS.

TEST_CASE("chat: Gemma") {
  CHECK(prompt(ChatTemplate::gemma, {{user, "Hi"}}) ==
        "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n");
  // Texts are trimmed, the system's are not: they begin the user's first turn.
  CHECK(prompt(ChatTemplate::gemma, {{sys, " Be brief. "},
                                     {user, " \n Hi you\u2003\n"},
                                     {model, "  Hello. "},
                                     {user, "Bye"}}) ==
        "<start_of_turn>user\n Be brief. \n\nHi you<end_of_turn>\n"
        "<start_of_turn>model\nHello.<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n");
  for (const char* blank : {"", " ", "\n \t"}) {
    CHECK(prompt(ChatTemplate::gemma, {{user, blank}}) ==
          "<start_of_turn>user\n<end_of_turn>\n<start_of_turn>model\n");
  }
}

TEST_CASE("chat: ChatML") {
  CHECK(prompt(ChatTemplate::chatml, {{user, "Hi"}}) ==
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  CHECK(prompt(ChatTemplate::chatml,
               {{sys, "Be brief."}, {user, " Hi\n"}, {model, "Hello."}, {user, "Bye"}}) ==
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n"
        "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n");
}

TEST_CASE("chat: SmolLM2 speaks of itself unless there is a system turn") {
  const std::string itself =
      "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
      "<|im_end|>\n";
  CHECK(prompt(ChatTemplate::smollm2, {{user, "Hi"}}) ==
        itself + "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  CHECK(prompt(ChatTemplate::smollm2, {{model, "x"}}) ==
        itself + "<|im_start|>assistant\nx<|im_end|>\n<|im_start|>assistant\n");
  const std::vector<ChatTurn> told{{sys, ""}, {user, "Hi"}};
  CHECK(prompt(ChatTemplate::smollm2, told) == prompt(ChatTemplate::chatml, told));
}

TEST_CASE("chat: what has no words in a template is refused") {
  for (const auto chat : {ChatTemplate::gemma, ChatTemplate::chatml, ChatTemplate::smollm2}) {
    check_refused([&] { prompt(chat, {}); }, {"at least one turn"});
    const auto [start, stop] = kvring::chat_markers(chat);
    for (const std::string_view marker : {start, stop}) {
      const std::string text = "a" + std::string(marker) + "b";
      check_refused(
          [&] {
            prompt(chat, {{sys, "x"}, {user, text}});
          },
          {"turn 1", "holds " + std::string(marker)});
    }
  }
  const auto gemma = [](std::vector<ChatTurn> turns) { prompt(ChatTemplate::gemma, turns); };
  check_refused([&] { gemma({{model, "x"}}); }, {"alternates", "turn 0 is not the user's"});
  check_refused([&] { gemma({{user, "x"}, {user, "y"}}); }, {"turn 1 is not the assistant's"});
  check_refused([&] { gemma({{user, "x"}, {sys, "y"}}); }, {"turn 1 is not the assistant's"});
  check_refused(
      [&] {
        gemma({{sys, "x"}, {user, "y"}, {user, "z"}});
      },
      {"turn 2 is not the assistant's"});
  check_refused([&] { gemma({{sys, "x"}}); }, {"needs a turn of the user"});
}

TEST_CASE("chat: markers become special tokens, and the second stops") {
  VocabularyWriter v;
  const TokenId start = v.add("<start_of_turn>", 0, 3), stop = v.add("<end_of_turn>", 0, 3);
  v.add("<|im_start|>", 0, 4);
  const TempFile file(v.file().bytes());
  const auto t = kvring::load_tokenizer(kvring::GgufFile(file.path()));
  CHECK(kvring::chat_stop(ChatTemplate::gemma, t->vocabulary()) == stop);
  const auto ids = t->encode(prompt(ChatTemplate::gemma, {{user, "Hi"}}));
  REQUIRE(ids.size() > 2);
  CHECK(ids[0] == t->vocabulary().bos());
  CHECK(ids[1] == start);
  CHECK(std::count(ids.begin(), ids.end(), start) == 2);
  CHECK(std::count(ids.begin(), ids.end(), stop) == 1);
  check_refused([&] { kvring::chat_stop(ChatTemplate::chatml, t->vocabulary()); },
                {"no token <|im_end|>"});
  v.add("<|im_end|>", 0, 1);
  const TempFile plain(v.file().bytes());
  const auto u = kvring::load_tokenizer(kvring::GgufFile(plain.path()));
  check_refused([&] { kvring::chat_stop(ChatTemplate::smollm2, u->vocabulary()); },
                {"<|im_end|>, is no special token"});
}

TEST_CASE("chat: the tokens of SmolLM2's turns") {
  const char* path = io_test::path_or_skip("KVRING_SMOLLM2", "chat: the tokens of SmolLM2's turns");
  if (path == nullptr) return;
  const auto t = kvring::load_tokenizer(kvring::GgufFile(path));
  CHECK(kvring::chat_stop(ChatTemplate::smollm2, t->vocabulary()) == 2);
  const auto ids = t->encode(prompt(ChatTemplate::smollm2, {{user, "Hi"}}));
  CHECK(std::count(ids.begin(), ids.end(), 1) == 3);
  CHECK(std::count(ids.begin(), ids.end(), 2) == 2);
  CHECK(ids.front() == 1);
}
