# What kvring's own tests and programs are compiled with. Nothing here reaches a user of kvring::kvring.
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(Eigen3 REQUIRED NO_MODULE)
find_package(fmt REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(Cccl REQUIRED)

if(KVRING_CUDA)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 90a)
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
endif()

find_program(KVRING_CCACHE ccache)
mark_as_advanced(KVRING_CCACHE)
if(KVRING_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${KVRING_CCACHE}")
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${KVRING_CCACHE}")
endif()

# kvring on the host: Thrust runs on OpenMP, GEMM is Eigen.
add_library(kvring_programs INTERFACE)
target_link_libraries(kvring_programs INTERFACE
  kvring::kvring Cccl::Cccl Eigen3::Eigen OpenMP::OpenMP_CXX
  fmt::fmt-header-only CLI11::CLI11 nlohmann_json::nlohmann_json)
target_compile_definitions(kvring_programs INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:THRUST_DEVICE_SYSTEM=THRUST_DEVICE_SYSTEM_OMP>")
target_compile_options(kvring_programs INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra>")
if(NOT KVRING_SANITIZE) # instrumented code draws false warnings from g++
  target_compile_options(kvring_programs INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Werror>")
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # g++ 12 sees overlapping copies in `"text" + string` that are not there (its bug 105651), and
  # uninitialised values in its own AVX-512 intrinsics, which Eigen uses (105593).
  target_compile_options(kvring_programs INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict;-Wno-maybe-uninitialized>")
endif()

# CMake's default, -std=gnu++20, is kept on purpose: with -std=c++20 g++ turns off the fused
# multiply-add, and the host kernels need it.
if(KVRING_NATIVE)
  target_compile_options(kvring_programs INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-march=native>")
endif()
if(KVRING_SANITIZE)
  set(sanitizers -fsanitize=address,undefined)
  target_compile_options(kvring_programs INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:${sanitizers};-fno-sanitize-recover=all;-fno-omit-frame-pointer>")
  target_link_options(kvring_programs INTERFACE ${sanitizers})
endif()
if(KVRING_CUDA)
  # CMake 3.25 does not know that nvcc 13 speaks C++20: CUDA_STANDARD 20 would add no flag.
  target_compile_options(kvring_programs INTERFACE
    "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;-Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Werror>")
  target_link_libraries(kvring_programs INTERFACE CUDA::cudart CUDA::cublas CUDA::cublasLt)
endif()
