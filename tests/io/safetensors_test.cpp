// The safetensors reader: what a valid file says, and every way in which a file may be wrong.
#include "kvring/io/safetensors.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "gguf_writer.hpp"
#include "io_test.hpp"

using io_test::check_refused;
using io_test::raw;
using io_test::TempFile;
using kvring::SafetensorsFile;

namespace {

std::string file_of(const std::string& header, const std::string& data) {
  return raw(std::uint64_t{header.size()}) + header + data;
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  std::size_t begin, std::size_t end) {
  return kvring::concat("\"", name, "\":{\"dtype\":\"", dtype, "\",\"shape\":", shape,
                        ",\"data_offsets\":[", begin, ",", end, "]}");
}

// One tensor "t" with its entry's inside as given, and 8 bytes of data.
std::string one(const std::string& inside) {
  return file_of(std::string("{\"t\":{") + inside + "}}", std::string(8, '\0'));
}

void refused(const std::string& bytes, std::initializer_list<std::string_view> words) {
  const TempFile temp(bytes);
  check_refused([&] { SafetensorsFile{temp.path()}; }, words);
  check_refused([&] { SafetensorsFile{temp.path()}; }, {temp.path().string()});
}

std::string sample() {
  const std::string header =
      std::string("{\"__metadata__\":{\"format\":\"pt\"},") + entry("ints", "I64", "[2]", 0, 16) +
      "," + entry("small", "I32", "[1,2]", 16, 24) + "," + entry("halves", "F16", "[3]", 24, 30) +
      "," + entry("brains", "BF16", "[2]", 30, 34) + "," + entry("floats", "F32", "[2,1]", 34, 42) +
      "," + entry("none", "F32", "[2,0]", 42, 42) + "," + entry("scalar", "F64", "[]", 42, 50) +
      "}   ";
  const std::string data = raw(std::int64_t{-1}) + raw(std::int64_t{1} << 40) +
                           raw(std::int32_t{-7}) + raw(std::int32_t{8}) +
                           raw(std::uint16_t{0x3c00}) + raw(std::uint16_t{0xc000}) +
                           raw(std::uint16_t{1}) + raw(std::uint16_t{0x3f80}) +
                           raw(std::uint16_t{0xc040}) + raw(1.5f) + raw(-2.25f) + raw(0.1);
  return file_of(header, data);
}

}  // namespace

TEST_CASE("safetensors: tensors of every type, unaligned") {
  const TempFile temp(sample());
  const SafetensorsFile file(temp.path());
  REQUIRE(file.tensors().size() == 7);
  CHECK(file.tensors()[0].name == "ints");
  CHECK(file.read_i64("ints") == std::vector<std::int64_t>{-1, std::int64_t{1} << 40});
  CHECK(file.read_i64("small") == std::vector<std::int64_t>{-7, 8});
  CHECK(file.read_f32("halves") == std::vector{1.0f, -2.0f, 0x1p-24f});
  CHECK(file.read_f32("brains") == std::vector{1.0f, -3.0f});
  CHECK(file.read_f32("floats") == std::vector{1.5f, -2.25f});
  CHECK(file.read_f32("scalar") == std::vector{0.1f});
  CHECK(file.read_f32("none").empty());
  CHECK(file.at("floats").shape == std::vector<std::uint64_t>{2, 1});
  CHECK(file.at("floats").elements() == 2);
  CHECK(file.at("scalar").shape.empty());
  CHECK(file.at("brains").info().name == std::string("BF16"));
  CHECK(file.find("nope") == nullptr);
  check_refused([&] { file.at("nope"); }, {temp.path().string(), "no tensor nope"});
  check_refused([&] { file.read_f32("ints"); }, {"tensor ints", "I64, wanted a float type"});
  check_refused([&] { file.read_i64("floats"); }, {"tensor floats", "F32, wanted I32 or I64"});
}

TEST_CASE("safetensors: a file without tensors") {
  const TempFile temp(file_of("{}", ""));
  CHECK(SafetensorsFile(temp.path()).tensors().empty());
}

TEST_CASE("safetensors: truncated at every byte") {
  const std::string whole = sample();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    refused(whole.substr(0, size), {size == 0 ? "is empty" : "truncated"});
  }
}

TEST_CASE("safetensors: wrong header lengths") {
  std::string bytes = sample();
  for (const std::uint64_t length : {std::uint64_t{0} - 1, std::uint64_t{1} << 63, bytes.size() - 7,
                                     std::uint64_t{100'000'001}}) {
    bytes.replace(0, 8, raw(length));
    refused(bytes, {"header claims", std::to_string(length)});
  }
  bytes.replace(0, 8, raw(std::uint64_t{0}));
  refused(bytes, {"no JSON object"});
  bytes.replace(0, 8, raw(std::uint64_t{40}));
  refused(bytes, {"not valid JSON"});
}

TEST_CASE("safetensors: headers that are not what they should be") {
  refused(file_of("[]", ""), {"no JSON object"});
  refused(file_of(" {}", ""), {"no JSON object"});
  refused(file_of("{} x", ""), {"not valid JSON"});
  refused(file_of("{\"a\xff\":1}", ""), {"not valid JSON"});
  refused(file_of("{\"t\":1}", ""), {"tensor t", "wanted an object"});
  refused(file_of("{\"__metadata__\":1}", ""), {"__metadata__ is no object"});
  refused(file_of("{\"__metadata__\":{\"k\":1}}", ""), {"__metadata__ key k is no string"});
  refused(file_of(std::string("{\"t\":") + std::string(50000, '['), ""),
          {"nested more than 4 deep"});
  refused(file_of("{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", ""), {"key a twice"});
  const std::string t = entry("t", "F32", "[1]", 0, 4);
  refused(file_of(std::string("{") + t + "," + t + "}", "1234"), {"key t twice"});
  refused(one("\"dtype\":\"F32\",\"dtype\":\"F32\""), {"key dtype twice"});
}

TEST_CASE("safetensors: entries that are not what they should be") {
  const std::string offsets = "\"data_offsets\":[0,8]", shape = "\"shape\":[2]",
                    dtype = "\"dtype\":\"F32\"";
  const auto with = [](const std::string& a, const std::string& b, const std::string& c) {
    return one(a + "," + b + "," + c);
  };
  {
    const TempFile good(with(dtype, shape, offsets));
    CHECK_NOTHROW(SafetensorsFile{good.path()});
  }
  refused(one(dtype + "," + shape), {"tensor t", "dtype, shape and data_offsets"});
  refused(one(dtype + "," + shape + "," + offsets + ",\"more\":1"), {"tensor t", "wanted"});
  refused(with("\"dtype\":1", shape, offsets), {"dtype is no string"});
  refused(with("\"dtype\":\"F8_E4M3\"", shape, offsets), {"F8_E4M3", "supported: F16 BF16"});
  refused(with(dtype, "\"shape\":2", offsets), {"shape is no array"});
  for (const char* dim : {"-1", "2.0", "\"2\"", "18446744073709551616", "[2]", "null", "1e3"}) {
    CAPTURE(std::string(dim));
    refused(with(dtype, kvring::concat("\"shape\":[", dim, "]"), offsets),
            {"tensor t", "shape holds something that is no whole number"});
  }
  refused(with(dtype, "\"shape\":[4294967296,4294967296]", offsets), {"exceeds 2^64"});
  refused(with(dtype, "\"shape\":[18446744073709551615]", offsets), {"exceeds 2^64"});
  refused(with(dtype, "\"shape\":[3]", offsets), {"needs 12 bytes, data_offsets give 8"});
  refused(with(dtype, "\"shape\":[0]", offsets), {"needs 0 bytes, data_offsets give 8"});
  refused(with(dtype, shape, "\"data_offsets\":[0,8,8]"), {"data_offsets has 3 numbers"});
  refused(with(dtype, shape, "\"data_offsets\":[8,0]"), {"data_offsets 8 to 0"});
  refused(with(dtype, shape, "\"data_offsets\":[4,12]"), {"4 to 12 leave the file", "8 bytes"});
  refused(with(dtype, shape, "\"data_offsets\":[18446744073709551608,18446744073709551615]"),
          {"leave the file"});
}

TEST_CASE("safetensors: tensors that overlap, leave gaps, or leave bytes over") {
  const auto two = [](std::size_t begin, std::size_t end, std::size_t size) {
    return file_of(std::string("{") + entry("b", "F32", "[2]", begin, end) + "," +
                       entry("a", "F32", "[1]", 0, 4) + "}",
                   std::string(size, '\0'));
  };
  const TempFile good(two(4, 12, 12));
  CHECK(SafetensorsFile(good.path()).tensors()[1].name == "b");
  refused(two(0, 8, 12), {"inside the tensor before"});
  refused(two(2, 10, 12), {"tensor b", "begin at 2, inside the tensor before, which ends at 4"});
  refused(two(5, 13, 13), {"tensor b", "begin at 5, after a gap", "ends at 4"});
  refused(two(4, 12, 13), {"13 bytes of data, its tensors take 12"});
  refused(file_of("{}", "x"), {"1 bytes of data, its tensors take 0"});
}

TEST_CASE("safetensors: the golden files") {
  const SafetensorsFile model(KVRING_TEST_DATA "/gemma3/model.safetensors");
  CHECK(model.at("model.embed_tokens.weight").shape == std::vector<std::uint64_t>{128, 64});
  CHECK(model.read_f32("model.embed_tokens.weight").size() == 128 * 64);
  const SafetensorsFile golden(KVRING_TEST_DATA "/gemma3/golden.safetensors");
  CHECK(golden.read_i64("input_ids").size() == 160);
  CHECK(golden.at("logits").shape == std::vector<std::uint64_t>{160, 128});
  const SafetensorsFile real(KVRING_TEST_DATA "/real/gemma3-270m-gpl3.safetensors");
  CHECK(real.read_i64("ids").size() == 5400);
  CHECK(real.read_i64("ids")[0] == 2);
  CHECK(real.read_f32("nll").size() == 5399);
}
