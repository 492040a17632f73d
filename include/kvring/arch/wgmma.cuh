// wgmma (sm_90a): a warpgroup of four warps multiplies 64 rows from registers or shared memory with
// a matrix in shared memory. PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions".
#pragma once

#include <cstdint>
#include <type_traits>

#include "kvring/element.hpp"

namespace kvring::arch {

/// Registers written by ordinary code are operands of what follows: before every batch.
__device__ inline void fence_wgmma() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
__device__ inline void commit_wgmma() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
/// Waits until all but the newest `Pending` groups are done.
template <int Pending>
__device__ inline void wait_for_wgmma() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(Pending) : "memory");
}

/// Registers of each thread of the warpgroup from here on. All warpgroups together must stay within
/// what the block was launched with.
template <int Count>
__device__ inline void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(Count));
}
template <int Count>
__device__ inline void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(Count));
}

/// True for one lane of a warp whose lanes are all here: the compiler then knows that what follows
/// runs in a single lane, and issues copies without a loop over lanes.
__device__ inline bool elect_one() {
  std::uint32_t elected;
  asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.b32 %0, 1, 0, p;\n}\n"
               : "=r"(elected));
  return elected != 0;
}

/// Where an operand lies: atoms of 8 rows of 128 or 64 bytes, permuted as tensor maps do.
/// `leading`: bytes between blocks of columns of a matrix that is read across its rows.
template <int row_bytes = 128>
__device__ inline std::uint64_t matrix_descriptor(std::uint32_t address, std::uint32_t leading) {
  static_assert(row_bytes == 128 || row_bytes == 64);
  constexpr std::uint64_t rows_of_8 = 8 * row_bytes >> 4;
  constexpr std::uint64_t permuted = std::uint64_t{row_bytes == 128 ? 1 : 2} << 62;
  return ((address & 0x3ffff) >> 4) | std::uint64_t{leading >> 4} << 16 | rows_of_8 << 32 |
         permuted;
}

/// Stores four 8x8 matrices of 16-bit elements: the reverse of load_matrices.
__device__ inline void store_matrices(std::uint32_t address, std::uint32_t a, std::uint32_t b,
                                      std::uint32_t c, std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(address),
               "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}

/// arrive: without waiting. sync: waits. Both count `threads` at barrier `id`.
__device__ inline void arrive_at_named_barrier(int id, int threads) {
  asm volatile("barrier.arrive %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}

/// d [64, N] += or = a [64, 16] b [16, N], f32 sums, operands of type T.
///   scores: a and b in shared memory, both with the summed index along their rows
///   sums:   a in registers, as mma.sync has it; b in shared memory with the summed index down its
///           columns
///   sums_of_shared: a in shared memory, as scores has it; b as sums has it
/// In flight until waited for.
template <class T, int N>
struct Wgmma;

// Register lists cannot come from a parameter pack: a macro writes them.
#define KVRING_WGMMA_NAMES_32                \
  "%0, %1, %2, %3, %4, %5, %6, %7, "         \
  "%8, %9, %10, %11, %12, %13, %14, %15, "   \
  "%16, %17, %18, %19, %20, %21, %22, %23, " \
  "%24, %25, %26, %27, %28, %29, %30, %31"
#define KVRING_WGMMA_NAMES_48                \
  KVRING_WGMMA_NAMES_32                      \
  ", %32, %33, %34, %35, %36, %37, %38, %39" \
  ", %40, %41, %42, %43, %44, %45, %46, %47"
#define KVRING_WGMMA_NAMES_64                \
  KVRING_WGMMA_NAMES_48                      \
  ", %48, %49, %50, %51, %52, %53, %54, %55" \
  ", %56, %57, %58, %59, %60, %61, %62, %63"
#define KVRING_WGMMA_NAMES_96                \
  KVRING_WGMMA_NAMES_64                      \
  ", %64, %65, %66, %67, %68, %69, %70, %71" \
  ", %72, %73, %74, %75, %76, %77, %78, %79" \
  ", %80, %81, %82, %83, %84, %85, %86, %87" \
  ", %88, %89, %90, %91, %92, %93, %94, %95"
#define KVRING_WGMMA_NAMES_128                       \
  KVRING_WGMMA_NAMES_96                              \
  ", %96, %97, %98, %99, %100, %101, %102, %103"     \
  ", %104, %105, %106, %107, %108, %109, %110, %111" \
  ", %112, %113, %114, %115, %116, %117, %118, %119" \
  ", %120, %121, %122, %123, %124, %125, %126, %127"
#define KVRING_WGMMA_8(d, i)                                                                  \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define KVRING_WGMMA_32(d, i)                                                \
  KVRING_WGMMA_8(d, i), KVRING_WGMMA_8(d, i + 8), KVRING_WGMMA_8(d, i + 16), \
      KVRING_WGMMA_8(d, i + 24)
#define KVRING_WGMMA_48(d, i) \
  KVRING_WGMMA_32(d, i), KVRING_WGMMA_8(d, i + 32), KVRING_WGMMA_8(d, i + 40)
#define KVRING_WGMMA_64(d, i) KVRING_WGMMA_32(d, i), KVRING_WGMMA_32(d, i + 32)
#define KVRING_WGMMA_96(d, i) KVRING_WGMMA_64(d, i), KVRING_WGMMA_32(d, i + 64)
#define KVRING_WGMMA_128(d, i) KVRING_WGMMA_64(d, i), KVRING_WGMMA_64(d, i + 64)

#define KVRING_WGMMA(T, TYPE, N, REGS, A0, A1, A2, A3, B)                                         \
  template <>                                                                                     \
  struct Wgmma<T, N> {                                                                            \
    __device__ static void scores(float (&d)[REGS], std::uint64_t a, std::uint64_t b,             \
                                  bool accumulate) {                                              \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" A2                                        \
                   ", 0;\n"                                                                       \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE                \
                   " {" KVRING_WGMMA_NAMES_##REGS "}, %" A0 ", %" A1 ", p, 1, 1, 0, 0;\n}\n"      \
                   : KVRING_WGMMA_##REGS(d, 0)                                                    \
                   : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));                          \
    }                                                                                             \
    __device__ static void sums(float (&d)[REGS], const std::uint32_t (&a)[4], std::uint64_t b) { \
      asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE                \
                   " {" KVRING_WGMMA_NAMES_##REGS "}, {%" A0 ", %" A1 ", %" A2 ", %" A3 "}, %" B  \
                                                  ", 1, 1, 1, 1;\n"                               \
                   : KVRING_WGMMA_##REGS(d, 0)                                                    \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                         \
    }                                                                                             \
    __device__ static void sums_of_shared(float (&d)[REGS], std::uint64_t a, std::uint64_t b) {   \
      asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE                \
                   " {" KVRING_WGMMA_NAMES_##REGS "}, %" A0 ", %" A1 ", 1, 1, 1, 0, 1;\n"         \
                   : KVRING_WGMMA_##REGS(d, 0)                                                    \
                   : "l"(a), "l"(b));                                                             \
    }                                                                                             \
  };

KVRING_WGMMA(bf16, "bf16", 64, 32, "32", "33", "34", "35", "36")
KVRING_WGMMA(bf16, "bf16", 96, 48, "48", "49", "50", "51", "52")
KVRING_WGMMA(bf16, "bf16", 128, 64, "64", "65", "66", "67", "68")
KVRING_WGMMA(bf16, "bf16", 192, 96, "96", "97", "98", "99", "100")
KVRING_WGMMA(bf16, "bf16", 256, 128, "128", "129", "130", "131", "132")
KVRING_WGMMA(f16, "f16", 64, 32, "32", "33", "34", "35", "36")
KVRING_WGMMA(f16, "f16", 96, 48, "48", "49", "50", "51", "52")
KVRING_WGMMA(f16, "f16", 128, 64, "64", "65", "66", "67", "68")
KVRING_WGMMA(f16, "f16", 192, 96, "96", "97", "98", "99", "100")
KVRING_WGMMA(f16, "f16", 256, 128, "128", "129", "130", "131", "132")

#undef KVRING_WGMMA
#undef KVRING_WGMMA_128
#undef KVRING_WGMMA_96
#undef KVRING_WGMMA_64
#undef KVRING_WGMMA_48
#undef KVRING_WGMMA_32
#undef KVRING_WGMMA_8
#undef KVRING_WGMMA_NAMES_128
#undef KVRING_WGMMA_NAMES_96
#undef KVRING_WGMMA_NAMES_64
#undef KVRING_WGMMA_NAMES_48
#undef KVRING_WGMMA_NAMES_32

}  // namespace kvring::arch
