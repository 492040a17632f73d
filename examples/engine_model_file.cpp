// ModelFile: what both kinds of file are asked.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "kvring/io/json.hpp"
#include "kvring/io/load_tokenizer.hpp"
#include "kvring/io/xxh64.hpp"
#include "model_file.hpp"

namespace kvring::programs {

ModelFile::ModelFile(const std::string& path) : path_(path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    require(std::filesystem::exists(std::filesystem::path(path) / "config.json", ignored), path,
            " is a directory without config.json: name a GGUF file, or a folder of safetensors");
    safetensors_.emplace(path);
  } else if (path.ends_with(".safetensors")) {
    safetensors_.emplace(path);
  } else {
    gguf_.emplace(path);
  }
}

ModelFile::Values ModelFile::values() const {
  Values values;
  const auto add = [&](std::string_view name, const auto& dims) {
    std::int64_t product = 1;
    for (const std::uint64_t dim : dims) product *= static_cast<std::int64_t>(dim);
    bool table = name == "token_embd.weight" || name == "output.weight";
    for (const char* end : {"embed_tokens.weight", "lm_head.weight"}) {
      table = table || name.ends_with(end);
    }
    (table ? values.tables : values.others) += product;
  };
  if (gguf_) {
    for (const GgufTensor& tensor : gguf_->tensors()) add(tensor.name, tensor.dims);
  } else {
    for (const SafetensorsFile& file : safetensors_->files()) {
      for (const SafetensorsTensor& tensor : file.tensors()) add(tensor.name, tensor.shape);
    }
  }
  return values;
}

std::string ModelFile::checksum() const {
  Xxh64 sum;
  const auto add = [&](const MappedFile& file) {
    constexpr std::size_t part = 16 << 20;
    for (std::size_t at = 0; at < file.bytes().size(); at += part) {
      const auto bytes = file.bytes().subspan(at, std::min(part, file.bytes().size() - at));
      sum.add(bytes.data(), bytes.size());
      file.drop_pages(bytes);
    }
  };
  if (gguf_) {
    add(gguf_->file());
  } else {
    for (const SafetensorsFile& file : safetensors_->files()) add(file.file());
  }
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(sum.value()));
  return text;
}

std::int64_t ModelFile::context(std::int64_t otherwise) const {
  if (gguf_) {
    const std::string key = concat(gguf_->string("general.architecture"), ".context_length");
    return static_cast<std::int64_t>(gguf_->u64(key));
  }
  const JsonObject root(safetensors_->config());
  const auto text = root.object("text_config");
  return (text ? *text : root).integer("max_position_embeddings").value_or(otherwise);
}

std::unique_ptr<Tokenizer> ModelFile::load_tokenizer() const {
  return gguf_ ? kvring::load_tokenizer(*gguf_) : nullptr;
}

std::unique_ptr<Tokenizer> ModelFile::require_tokenizer() const {
  auto tokenizer = load_tokenizer();
  require(tokenizer != nullptr, path_, " has no tokenizer that kvring reads: safetensors go with ",
          "--ids, text needs a GGUF file");
  return tokenizer;
}

std::vector<TokenId> ModelFile::end_ids(const Tokenizer* tokenizer) const {
  std::vector<TokenId> ids;
  if (tokenizer != nullptr) {
    const Vocabulary& vocabulary = tokenizer->vocabulary();
    ids.push_back(vocabulary.eos());
    if (vocabulary.eot()) ids.push_back(*vocabulary.eot());
    return ids;
  }
  const auto add = [&](const Json& value) {
    const bool id = value.is_number_unsigned() && value.get<std::uint64_t>() < (1u << 31);
    require(id, safetensors_->config().path, ": eos_token_id holds ", json_text(value),
            ", which is no token id");
    ids.push_back(value.get<TokenId>());
  };
  const JsonObject root(safetensors_->config());
  const auto text = root.object("text_config");
  const Json* value = root.find("eos_token_id");
  if (value == nullptr && text) value = text->find("eos_token_id");
  if (value == nullptr) return ids;
  if (value->is_array()) {
    for (const Json& each : *value) add(each);
  } else {
    add(*value);
  }
  return ids;
}

}  // namespace kvring::programs
