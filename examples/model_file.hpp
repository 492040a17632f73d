// ModelFile: a model as it lies on the disk, a GGUF file or transformers' safetensors.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvring/io/gguf.hpp"
#include "kvring/io/safetensors_folder.hpp"
#include "kvring/io/tokenizer.hpp"

namespace kvring::programs {

/// Opens a GGUF file; or a folder with config.json and safetensors, or one file.safetensors beside
/// a config.json. Throws Error if it is none of them. Exactly one of gguf() and safetensors() is
/// there.
class ModelFile {
 public:
  explicit ModelFile(const std::string& path);

  const std::string& path() const { return path_; }
  const GgufFile* gguf() const { return gguf_ ? &*gguf_ : nullptr; }
  const SafetensorsFolder* safetensors() const { return safetensors_ ? &*safetensors_ : nullptr; }

  /// Numbers in the tensors: in the tables of tokens, and in all others.
  struct Values {
    std::int64_t tables = 0, others = 0;
  };
  Values values() const;

  /// Of every byte of the weights' files, in hexadecimal digits.
  std::string checksum() const;

  /// The longest context that the file states, or `otherwise` if it states none.
  std::int64_t context(std::int64_t otherwise) const;

  /// nullptr: safetensors bring no tokenizer that kvring reads.
  std::unique_ptr<Tokenizer> load_tokenizer() const;
  /// The same, or an Error that says what to do without one.
  std::unique_ptr<Tokenizer> require_tokenizer() const;
  /// The ids that end a text, as the file states them.
  std::vector<TokenId> end_ids(const Tokenizer* tokenizer) const;

 private:
  std::string path_;
  std::optional<GgufFile> gguf_;
  std::optional<SafetensorsFolder> safetensors_;
};

}  // namespace kvring::programs
