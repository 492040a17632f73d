// docs/memory.md holds what the plans say. A row that differs is printed as it should be: the page
// is made of what this test prints when the page is empty.
#include <doctest/doctest.h>

#include <cstdint>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <string>

#include "kvring/models/dense.hpp"
#include "kvring/models/gemma3.hpp"
#include "kvring/models/gemma4.hpp"
#include "kvring/models/gpt_oss.hpp"
#include "kvring/report.hpp"

using namespace kvring;
using namespace kvring::models;

namespace {

template <class Model>
using PagePlan = Plan<Model, bf16, Chunk<4096>, Rewind<64>>;

std::string page() {
  std::ifstream file(KVRING_TEST_DATA "/../../docs/memory.md");
  return {std::istreambuf_iterator<char>(file), {}};
}

/// "| `name` | full | plan | full | plan | full | plan | KiB |", in MiB at three contexts; KiB is
/// what one position more takes at the longest of them, when the rings are full.
template <class Model>
std::string row() {
  using P = PagePlan<Model>;
  std::string text = fmt::format("| `{}` |", Model::name);
  for (const std::int64_t context : {8'192, 32'768, 131'072}) {
    if (context > Model::max_context) {
      text += " | |";
    } else {
      text += fmt::format(" {} | {} |", mebibytes(P::full_cache_bytes(context)),
                          mebibytes(P::cache_bytes(context)));
    }
  }
  const std::int64_t more = P::cache_bytes(131'073) - P::cache_bytes(131'072);
  return text + fmt::format(" {}{} |", more / 1024, more % 1024 == 512 ? ".5" : "");
}

/// "| `name` | context | full | headroom | staged | stage |", in MiB at the model's longest context
/// of up to 131,072.
template <class Model>
std::string staged_row() {
  using P = PagePlan<Model>;
  constexpr std::int64_t context = smaller(Model::max_context, 131'072);
  return fmt::format("| `{}` | {} | {} | {} | {} | {} |", Model::name, grouped(context),
                     mebibytes(P::full_cache_bytes(context)), mebibytes(P::cache_bytes(context)),
                     mebibytes(P::Staged::cache_bytes(context)),
                     mebibytes(StagePlan<typename P::Staged>::bytes(context)));
}

void check_row(const std::string& page, const std::string& wanted) {
  CAPTURE(wanted);
  CHECK(page.find("\n" + wanted + "\n") != std::string::npos);
}

template <class... Model>
void check_rows(TypeList<Model...>) {
  const std::string text = page();
  (check_row(text, row<Model>()), ...);
}
template <class... Model>
void check_staged_rows(TypeList<Model...>) {
  const std::string text = page();
  (check_row(text, staged_row<Model>()), ...);
}

}  // namespace

TEST_CASE("the tables of docs/memory.md are what the plans say") {
  using Windowed =
      TypeList<Gemma3_270M, Gemma3_1B, Gemma3_4B, Gemma3_12B, Gemma3_27B, Gemma4_E2B, Gemma4_E4B,
               Gemma4_12B, Gemma4_31B, GptOss_20B, GptOss_120B, Mistral_7B_v0_1>;
  check_rows(Windowed{});
  check_staged_rows(Windowed{});
  check_rows(
      TypeList<Llama3_1_8B, Llama3_2_1B, Llama3_2_3B, Llama3_3_70B, SmolLM2_135M, SmolLM2_360M,
               SmolLM2_1_7B, Qwen3_0_6B, Qwen3_1_7B, Qwen3_4B, Qwen3_8B, Qwen3_14B, Qwen3_32B>{});
}

TEST_CASE("what kvring-plan prints of Gemma 4 E4B stands in docs/memory.md") {
  const std::string table = memory_table(memory_report<PagePlan<Gemma4_E4B>>(131'072));
  CAPTURE(table);
  CHECK(page().find("```text\n" + table + "```\n") != std::string::npos);
}
