// A mapped file: its bytes, its errors, its moves, and pages given back.
#include "kvring/io/mapped_file.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "io_test.hpp"

using io_test::check_refused;
using io_test::TempFile;
using kvring::MappedFile;

TEST_CASE("mapped file: the bytes are the file's") {
  std::string bytes(10000, 'x');
  bytes[0] = 'a';
  bytes[9999] = '\0';
  const TempFile temp(bytes);
  const MappedFile file(temp.path());
  REQUIRE(file.bytes().size() == bytes.size());
  CHECK(std::memcmp(file.bytes().data(), bytes.data(), bytes.size()) == 0);
  CHECK(file.path() == temp.path().string());
}

TEST_CASE("mapped file: what can't be mapped is refused by name") {
  const TempFile empty("");
  check_refused([] { MappedFile("/nowhere/at/all"); }, {"cannot open /nowhere/at/all", "No such"});
  check_refused([] { MappedFile(""); }, {"cannot open", "No such"});
  check_refused([&] { MappedFile(empty.path()); }, {empty.path().string(), "empty (0 bytes)"});
  check_refused([] { MappedFile("/"); }, {"/ is a directory"});
  check_refused([] { MappedFile("/dev/null"); }, {"/dev/null is not a regular file"});
}

TEST_CASE("mapped file: a pipe without a writer is refused and does not block") {
  const TempFile temp("x");
  const std::string pipe = temp.path().string() + ".pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  check_refused([&] { MappedFile{pipe}; }, {"not a regular file"});
  ::unlink(pipe.c_str());
}

TEST_CASE("mapped file: moving keeps the address") {
  const TempFile temp("abc"), other("defg");
  MappedFile a(temp.path());
  const std::byte* const address = a.bytes().data();
  MappedFile b(std::move(a));
  CHECK(b.bytes().data() == address);
  MappedFile c(other.path());
  c = std::move(b);
  CHECK(c.bytes().data() == address);
  CHECK(c.bytes().size() == 3);
  MappedFile& same = c;
  c = std::move(same);
  CHECK(c.bytes().data() == address);
}

TEST_CASE("mapped file: the end of a moved-from one unmaps nothing") {
  const TempFile temp("abc");
  auto from = std::make_unique<MappedFile>(temp.path());
  const MappedFile to(std::move(*from));
  from.reset();
  CHECK(to.bytes()[2] == std::byte{'c'});
}

TEST_CASE("mapped file: dropped pages come back as they were") {
  std::string bytes(50000, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7);
  const TempFile temp(bytes);
  const MappedFile file(temp.path());
  CHECK(std::memcmp(file.bytes().data(), bytes.data(), bytes.size()) == 0);
  file.drop_pages(file.bytes());
  file.drop_pages(file.bytes().subspan(5000, 20000));
  file.drop_pages(file.bytes().subspan(49999));
  file.drop_pages(file.bytes().subspan(100, 0));
  file.drop_pages({});
  CHECK(std::memcmp(file.bytes().data(), bytes.data(), bytes.size()) == 0);
  const std::byte elsewhere{};
  check_refused([&] { file.drop_pages({&elsewhere, 1}); }, {"not inside the mapping"});
}
