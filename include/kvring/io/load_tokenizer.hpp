// load_tokenizer: the tokenizer that a GGUF file asks for.
#pragma once

#include <memory>
#include <string_view>

#include "kvring/error.hpp"
#include "kvring/io/bpe_tokenizer.hpp"
#include "kvring/io/gguf.hpp"
#include "kvring/io/printable.hpp"
#include "kvring/io/spm_tokenizer.hpp"
#include "kvring/io/tokenizer.hpp"

namespace kvring {

/// Chosen by `tokenizer.ggml.model`. The file may be closed afterwards. Throws Error if the
/// vocabulary is damaged, or of a kind that is not supported.
inline std::unique_ptr<Tokenizer> load_tokenizer(const GgufFile& file) {
  const std::string_view model = file.string("tokenizer.ggml.model");
  if (model == "llama") return std::make_unique<SpmTokenizer>(file);
  if (model == "gpt2") return std::make_unique<BpeTokenizer>(file);
  fail(file.path(), ": tokenizer.ggml.model is ", printable(model),
       ", supported: llama (SentencePiece), gpt2 (byte-level BPE)");
}

}  // namespace kvring
