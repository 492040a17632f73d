// Writes GGUF files that hold a small SentencePiece-style vocabulary.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gguf_writer.hpp"

namespace io_test {

struct VocabularyWriter {
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<std::int32_t> kinds;
  std::string model = "llama";

  /// <unk> is 0, <bos> 1, <eos> 2, byte b is 3 + b, the space 259; what is added comes after.
  VocabularyWriter() {
    add("<unk>", -1000, 2);
    add("<bos>", -1000, 3);
    add("<eos>", -1000, 3);
    const char digits[] = "0123456789ABCDEF";
    for (int b = 0; b < 256; ++b) {
      add(std::string("<0x") + digits[b / 16] + digits[b % 16] + ">", 0, 6);
    }
    add("\xe2\x96\x81", -1000);
  }
  static constexpr std::int32_t space = 259;
  static std::int32_t byte(unsigned value) { return static_cast<std::int32_t>(3 + value); }

  /// The new token's id. Kind 1 is normal, 3 control, 4 user-defined.
  std::int32_t add(const std::string& text, float score, std::int32_t kind = 1) {
    tokens.push_back(text);
    scores.push_back(score);
    kinds.push_back(kind);
    return static_cast<std::int32_t>(tokens.size() - 1);
  }

  GgufWriter file() const {
    GgufWriter out;
    out.add("tokenizer.ggml.model", model.c_str());
    out.add_strings("tokenizer.ggml.tokens", tokens);
    out.add_array("tokenizer.ggml.scores", scores);
    out.add_array("tokenizer.ggml.token_type", kinds);
    out.add("tokenizer.ggml.bos_token_id", std::uint32_t{1});
    out.add("tokenizer.ggml.eos_token_id", std::uint32_t{2});
    out.add("tokenizer.ggml.add_bos_token", true);
    out.add("tokenizer.ggml.add_space_prefix", false);
    return out;
  }
};

}  // namespace io_test
