// The GGUF reader: what a valid file says, and every way in which a file may be wrong.
#include "kvring/io/gguf.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "gguf_writer.hpp"
#include "io_test.hpp"

using io_test::check_refused;
using io_test::GgufWriter;
using io_test::raw;
using io_test::raw_string;
using io_test::small_gguf;
using io_test::TempFile;
using kvring::GgmlType;
using kvring::GgufFile;

namespace {

constexpr std::uint64_t huge = std::numeric_limits<std::uint64_t>::max();

// Opening the bytes as a file is refused, with all the words and the file's name.
void refused(const std::string& bytes, std::initializer_list<std::string_view> words) {
  const TempFile temp(bytes);
  check_refused([&] { GgufFile{temp.path()}; }, words);
  check_refused([&] { GgufFile{temp.path()}; }, {temp.path().string()});
}
void refused(const GgufWriter& file, std::initializer_list<std::string_view> words) {
  refused(file.bytes(), words);
}

// The small file after a change.
GgufWriter changed(const std::function<void(GgufWriter&)>& change) {
  GgufWriter out = small_gguf();
  change(out);
  return out;
}

// The small file with one more value, given as its bytes from the type on.
GgufWriter with_value(const std::string& typed_value) {
  return changed([&](GgufWriter& w) { w.entries.push_back({"extra", typed_value}); });
}

// A file of one tensor "t", so that its name's length is at byte 24 and its rank at 33.
std::string lone_tensor() {
  GgufWriter out;
  out.tensors.push_back({"t", 0, {1}, "1234"});
  return out.bytes();
}

std::uint32_t number(kvring::GgufType type) { return static_cast<std::uint32_t>(type); }

}  // namespace

TEST_CASE("gguf: values of every type") {
  const TempFile temp(small_gguf().bytes());
  const GgufFile file(temp.path());
  CHECK(file.values().size() == 17);
  CHECK(file.string("general.architecture") == "test");
  CHECK(file.u64("a.u8") == 200);
  CHECK(file.u64("a.u16") == 60000);
  CHECK(file.u64("a.u32") == 4000000000u);
  CHECK(file.u64("a.u64") == huge);
  CHECK(file.f64("a.f32") == 0.5);
  CHECK(file.f64("a.f64") == 0.25);
  CHECK(file.boolean("a.bool"));
  CHECK(file.f32s("b.f32") == std::vector{1.0f, -2.0f});
  CHECK(file.i64s("b.i32") == std::vector<std::int64_t>{7, -8, 9});
  CHECK(file.i64s("b.u64") == std::vector<std::int64_t>{1, 2});
  CHECK(file.strings("b.string") == std::vector<std::string_view>{"one", "", "three"});
  CHECK(file.has("b.bool"));
  CHECK(!file.has("b.boo"));
  CHECK(file.value("b.bool").type_name() == "array of bool");
  CHECK(file.value("a.i64").type_name() == "i64");
}

TEST_CASE("gguf: a value of another type is refused with both types") {
  const TempFile temp(small_gguf().bytes());
  const GgufFile file(temp.path());
  check_refused([&] { file.u64("nope"); }, {temp.path().string(), "no metadata key nope"});
  check_refused([&] { file.u64("a.f32"); }, {"a.f32 is f32, wanted an integer"});
  check_refused([&] { file.u64("b.i32"); }, {"b.i32 is array of i32, wanted an integer"});
  check_refused([&] { file.u64("a.bool"); }, {"a.bool is bool, wanted an integer"});
  check_refused([&] { file.f64("a.u8"); }, {"a.u8 is u8, wanted a float"});
  check_refused([&] { file.boolean("a.u8"); }, {"a.u8 is u8, wanted a bool"});
  check_refused([&] { file.string("a.u8"); }, {"a.u8 is u8, wanted a string"});
  check_refused([&] { file.string("b.string"); }, {"array of string, wanted a string"});
  check_refused([&] { file.strings("general.architecture"); }, {"wanted an array of strings"});
  check_refused([&] { file.f32s("b.i32"); }, {"array of i32, wanted an array of floats"});
  check_refused([&] { file.i64s("b.f32"); }, {"array of f32, wanted an array of integers"});
  check_refused([&] { file.i64s("a.u8"); }, {"a.u8 is u8, wanted an array of integers"});
  for (const char* key : {"a.i8", "a.i16", "a.i32", "a.i64"}) {
    check_refused([&] { file.u64(key); }, {key, " is -", "wanted a number >= 0"});
  }
}

TEST_CASE("gguf: an array's number beyond 63 bits is refused") {
  GgufWriter writer;
  writer.add_array<std::uint64_t>("big", {1, huge});
  const TempFile temp(writer.bytes());
  check_refused([&] { GgufFile(temp.path()).i64s("big"); },
                {"big", std::to_string(huge), "63 bits"});
}

TEST_CASE("gguf: tensors") {
  const TempFile temp(small_gguf().bytes());
  const GgufFile file(temp.path());
  REQUIRE(file.tensors().size() == 3);
  const kvring::GgufTensor& matrix = file.at("matrix");
  CHECK(matrix.type == GgmlType::f32);
  CHECK(matrix.rank == 2);
  CHECK(matrix.dims == std::array<std::uint64_t, 4>{3, 2, 1, 1});
  CHECK(matrix.bytes == 24);
  CHECK(matrix.shape() == "[3, 2] F32");
  CHECK(reinterpret_cast<std::uintptr_t>(matrix.data) % 32 == 0);
  float values[32];
  kvring::dequantize(matrix.type, matrix.data, values, 6);
  for (int i = 0; i < 6; ++i) CHECK(values[i] == static_cast<float>(i) - 2.5f);
  const kvring::GgufTensor& quants = file.at("quants");
  CHECK(quants.bytes == 34);
  kvring::dequantize(quants.type, quants.data, values, 32);
  CHECK(values[31] == 2.0f);
  CHECK(file.at("half").shape() == "[2, 1, 2, 1] F16");
  CHECK(file.at("half").bytes == 8);
  CHECK(file.find("nope") == nullptr);
  check_refused([&] { file.at("nope"); }, {temp.path().string(), "no tensor nope"});
  file.drop_pages(matrix);
  kvring::dequantize(matrix.type, matrix.data, values, 6);
  CHECK(values[5] == 2.5f);
}

TEST_CASE("gguf: views outlive a move") {
  const TempFile temp(small_gguf().bytes());
  GgufFile file(temp.path());
  const std::string_view text = file.string("general.architecture");
  const kvring::GgufTensor* tensor = file.find("matrix");
  const GgufFile moved(std::move(file));
  CHECK(text == "test");
  CHECK(moved.find("matrix") == tensor);
  CHECK(tensor->name == "matrix");
  CHECK(moved.string("general.architecture").data() == text.data());
}

TEST_CASE("gguf: other alignments, and files without tensors or values") {
  for (const std::uint32_t alignment : {8u, 64u, 4096u}) {
    GgufWriter writer = small_gguf();
    writer.add("general.alignment", alignment);
    writer.alignment = alignment;
    const TempFile temp(writer.bytes());
    const GgufFile file(temp.path());
    CHECK(reinterpret_cast<std::uintptr_t>(file.at("quants").data) % alignment == 0);
    CHECK(file.at("quants").data[33] == std::byte{2});
  }
  const TempFile nothing(GgufWriter{}.bytes());
  CHECK(GgufFile(nothing.path()).tensors().empty());
  CHECK(GgufFile(nothing.path()).values().empty());
}

TEST_CASE("gguf: tensors may lie in any order and leave gaps") {
  GgufWriter writer = small_gguf();
  writer.tensors[0].offset = 64;
  writer.tensors[1].offset = 96;
  writer.tensors[2].offset = 0;
  const TempFile temp(writer.bytes() + std::string(200, '\0'));
  CHECK(GgufFile(temp.path()).find("half")->data < GgufFile(temp.path()).find("half")->data + 1);
  CHECK(GgufFile(temp.path()).tensors().size() == 3);
}

TEST_CASE("gguf: no file, empty file, directory") {
  check_refused([] { GgufFile("/nowhere/model.gguf"); }, {"cannot open /nowhere/model.gguf"});
  check_refused([] { GgufFile("/"); }, {"is a directory"});
  refused(std::string(), {"is empty"});
}

TEST_CASE("gguf: truncated at every byte") {
  const std::string whole = small_gguf().bytes();
  REQUIRE(whole.size() < 1200);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    refused(whole.substr(0, size), {size == 0 ? "is empty" : "truncated"});
  }
  const TempFile temp(whole);
  CHECK_NOTHROW(GgufFile{temp.path()});
}

TEST_CASE("gguf: wrong magic, version, alignment") {
  refused(changed([](auto& w) { w.magic = "GGML"; }), {"not a GGUF file"});
  refused(std::string(100, '\0'), {"not a GGUF file"});
  for (const std::uint32_t version : {0u, 1u, 2u, 4u, 0x03000000u}) {
    refused(changed([&](auto& w) { w.version = version; }),
            {kvring::concat("GGUF version ", version), "supported: 3"});
  }
  for (const std::uint32_t alignment : {0u, 1u, 4u, 12u, 24u, 33u, 0xffffffffu}) {
    refused(changed([&](auto& w) { w.add("general.alignment", alignment); }),
            {kvring::concat("general.alignment is ", alignment), "power of two"});
  }
  const TempFile text(changed([](auto& w) { w.add("general.alignment", "32"); }).bytes());
  check_refused([&] { GgufFile{text.path()}; }, {"general.alignment is string, wanted an integer"});
  refused(changed([](auto& w) { w.add("general.alignment", std::uint64_t{1} << 63); }),
          {"truncated"});
}

TEST_CASE("gguf: counts and lengths near 2^64") {
  for (const std::uint64_t n : {huge, huge - 1, huge / 8, huge / 13 + 2, huge / 32 + 2,
                                std::uint64_t{1} << 63, std::uint64_t{1} << 32}) {
    CAPTURE(n);
    const std::string digits = std::to_string(n);
    refused(changed([&](auto& w) { w.tensor_count = n; }), {"tensor table", digits});
    refused(changed([&](auto& w) { w.value_count = n; }), {"metadata", digits});
    using kvring::GgufType;
    // A string, an array of each width, and an array of strings.
    refused(with_value(raw(number(GgufType::string)) + raw(n) + "abc"), {"extra", digits});
    for (const GgufType type : {GgufType::u8, GgufType::u16, GgufType::f32, GgufType::u64,
                                GgufType::boolean, GgufType::string}) {
      refused(with_value(raw(number(GgufType::array)) + raw(number(type)) + raw(n) + "abcdefgh"),
              {"extra", digits});
    }
    refused(with_value(raw(number(GgufType::array)) + raw(number(GgufType::string)) +
                       raw(std::uint64_t{2}) + raw_string("x") + raw(n)),
            {"extra", digits});
    // A key's length, a name's length: the first of each.
    std::string bytes = small_gguf().bytes();
    bytes.replace(24, 8, raw(n));
    refused(bytes, {"metadata key", digits});
    bytes = lone_tensor();
    bytes.replace(24, 8, raw(n));
    refused(bytes, {"tensor name", digits});
  }
}

TEST_CASE("gguf: unknown types") {
  for (const std::uint32_t type : {13u, 99u, 0xffffffffu}) {
    refused(with_value(raw(type) + raw(std::uint64_t{0})),
            {kvring::concat("metadata key extra has unknown type ", type)});
    refused(with_value(raw(std::uint32_t{9}) + raw(type) + raw(std::uint64_t{0})),
            {kvring::concat("metadata key extra has unknown type ", type)});
  }
  refused(with_value(raw(std::uint32_t{9}) + raw(std::uint32_t{9}) + raw(std::uint64_t{0})),
          {"metadata key extra", "array of arrays"});
  refused(with_value(raw(std::uint32_t{7}) + "\2"), {"metadata key extra", "bool 2"});
  for (const std::uint32_t type : {4u, 5u, 9u, 10u, 11u, 15u, 16u, 29u, 31u, 0xffffffffu}) {
    refused(changed([&](auto& w) { w.tensors[1].type = type; }),
            {"tensor quants", kvring::concat("tensor type ", type, " can't be read"), "Q8_0"});
  }
}

TEST_CASE("gguf: impossible dimensions") {
  const auto dims = [](std::vector<std::uint64_t> dims) {
    return changed([&](auto& w) { w.tensors[0].dims = dims; });
  };
  refused(dims({}), {"tensor matrix: 0 dimensions", "1 to 4"});
  refused(dims({1, 1, 1, 1, 1}), {"tensor matrix: 5 dimensions", "1 to 4"});
  refused(dims({3, 0}), {"tensor matrix: dimension 1 is 0"});
  refused(dims({huge}), {"tensor matrix", "2^64"});
  refused(dims({huge / 4, 2}), {"tensor matrix", "2^64"});
  refused(dims({std::uint64_t{1} << 32, std::uint64_t{1} << 32}), {"tensor matrix", "2^64"});
  refused(dims({1, 1, std::uint64_t{1} << 33, std::uint64_t{1} << 33}), {"tensor matrix", "2^64"});
  refused(dims({std::uint64_t{1} << 61}), {"tensor matrix", "leaves the file"});
  refused(changed([](auto& w) { w.tensors[1].dims = {31}; }),
          {"tensor quants", "31 elements is no multiple of the 32", "Q8_0"});
  // The rank alone, near 2^32.
  std::string bytes = lone_tensor();
  bytes.replace(24 + 9, 4, raw(0xffffffffu));
  refused(bytes, {"tensor t: 4294967295 dimensions"});
}

TEST_CASE("gguf: offsets that are odd, overlap or leave the file") {
  const auto offset = [](std::size_t tensor, std::uint64_t value) {
    return changed([&](auto& w) { w.tensors[tensor].offset = value; });
  };
  refused(offset(1, 33), {"tensor quants", "offset 33", "alignment 32"});
  refused(offset(1, 0), {"overlaps"});
  refused(offset(2, 32), {"overlaps"});
  refused(offset(2, 64), {"tensor half", "overlaps quants"});  // quants has 34 bytes from 32
  refused(offset(2, 128), {"tensor half", "leaves the file", "offset 128"});
  for (const std::uint64_t far : {huge - 31, huge / 2 + 1, std::uint64_t{1} << 40}) {
    refused(offset(0, far), {"tensor matrix", "leaves the file", std::to_string(far)});
    refused(offset(1, far), {"tensor quants", "leaves the file", std::to_string(far)});
  }
}

TEST_CASE("gguf: names that occur twice") {
  refused(changed([](auto& w) { w.add("a.u8", std::uint8_t{1}); }),
          {"metadata key a.u8 occurs twice"});
  refused(changed([](auto& w) { w.tensors[2].name = "matrix"; }),
          {"tensor matrix", "occurs twice"});
}

TEST_CASE("gguf: a message shows strange names safely and in short") {
  const std::string name = "\x1b[31m\n" + std::string(100000, 'x');
  refused(changed([&](auto& w) {
            w.tensors[0] = {name, 77, {1}, "1234"};
          }),
          {"tensor \\x1b[31m\\x0axxxx", "x...: tensor type 77"});
}

TEST_CASE("gguf: the byte reader stops where the bytes do") {
  const std::string bytes = raw(std::uint32_t{5}) + raw(std::uint64_t{3}) + "abc";
  const auto span = std::as_bytes(std::span(bytes));
  kvring::ByteReader in(span, "F");
  CHECK(in.number<std::uint32_t>("n") == 5);
  CHECK(in.position() == 4);
  CHECK(in.string("s") == "abc");
  CHECK(in.left() == 0);
  in.take(0, 8, "none");
  check_refused([&] { in.number<std::uint8_t>("n"); }, {"F", "n at offset 15 needs 1 bytes, 0"});
  check_refused([&] { in.take(huge, 8, "n"); }, {"18446744073709551615 times 8 bytes"});
  check_refused([&] { kvring::ByteReader(span.first(3), "F").number<float>("n"); },
                {"needs 1 times 4 bytes, 3 are left"});
}

TEST_CASE("gguf: Gemma 3 270M as it is") {
  const char* path = io_test::path_or_skip("KVRING_GEMMA3", "gguf: Gemma 3 270M as it is");
  if (path == nullptr) return;
  const auto start = std::chrono::steady_clock::now();
  const GgufFile file(path);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  MESSAGE("opened in ", seconds.count() * 1e3, " ms");
  CHECK(file.string("general.architecture") == "gemma3");
  CHECK(file.u64("gemma3.block_count") == 18);
  CHECK(file.f64("gemma3.rope.freq_base") == 1e6);
  CHECK(file.strings("tokenizer.ggml.tokens").size() == 262144);
  CHECK(file.tensors().size() == 236);
  CHECK(file.at("token_embd.weight").shape() == "[640, 262144] Q8_0");
  CHECK(file.at("blk.0.attn_output.weight").shape() == "[1024, 640] Q4_K");
  CHECK(file.at("blk.17.ffn_down.weight").shape() == "[2048, 640] Q6_K");
}
