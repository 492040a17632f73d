// kvring-tokenize: a text to a JSON array of token ids, or back.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kvring/io/tokenizer.hpp"
#include "model_file.hpp"
#include "program.hpp"

using namespace kvring;
using namespace kvring::programs;

namespace {

/// The bytes whose encoding the ids are: without the <bos> that encoding adds, and with what
/// control tokens the text spelled out.
std::string decode(const Tokenizer& tokenizer, std::span<const std::int32_t> ids) {
  const Vocabulary& vocabulary = tokenizer.vocabulary();
  if (vocabulary.add_bos() && !ids.empty() && ids.front() == vocabulary.bos()) {
    ids = ids.subspan(1);
  }
  return tokenizer.decode(ids, ControlTokens::show);
}

void tokenize(const std::string& model, const std::string& path, bool back) {
  const std::string input = read_file(path);
  const auto tokenizer = ModelFile(model).require_tokenizer();
  if (back) {
    const auto size = static_cast<std::int64_t>(tokenizer->vocabulary().size());
    print(decode(*tokenizer, parse_ids(input, path, size)));
  } else {
    print(nlohmann::json(tokenizer->encode(input)).dump() + "\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string model, path;
  bool back = false;
  CLI::App app("Text to token ids, as the model wants them.", "kvring-tokenize");
  app.add_option("--model", model, "GGUF file")->required();
  app.add_option("--file", path, "text, or with --decode a JSON array of ids")->required();
  app.add_flag("--decode", back, "ids to text");
  return run(app, argc, argv, [&] { tokenize(model, path, back); });
}
