# Finds the headers of CCCL (Thrust), which the scalar kernels use on the host as well as on the device.
#
#   KVRING_CCCL_INCLUDE   the folder that holds thrust/version.h; set it to choose one yourself
#   Cccl::Cccl            the target, its headers marked SYSTEM
#
# Looked for in a CUDA toolkit (13 or later keeps them in include/cccl), then where cmake/fetch.py
# puts the copy from PyPI.
if(DEFINED ENV{KVRING_CACHE})
  set(cccl_cache "$ENV{KVRING_CACHE}")
elseif(DEFINED ENV{XDG_CACHE_HOME})
  set(cccl_cache "$ENV{XDG_CACHE_HOME}/kvring")
else()
  set(cccl_cache "$ENV{HOME}/.cache/kvring")
endif()

find_program(KVRING_NVCC nvcc PATHS /usr/local/cuda/bin)
mark_as_advanced(KVRING_NVCC)
set(cccl_toolkits "$ENV{CUDAToolkit_ROOT}" "$ENV{CUDA_HOME}" "$ENV{CUDA_PATH}")
if(KVRING_NVCC)
  file(REAL_PATH "${KVRING_NVCC}" nvcc_path)
  cmake_path(GET nvcc_path PARENT_PATH nvcc_folder)
  cmake_path(GET nvcc_folder PARENT_PATH nvcc_root)
  list(APPEND cccl_toolkits "${nvcc_root}")
endif()
list(APPEND cccl_toolkits /usr/local/cuda)
list(REMOVE_ITEM cccl_toolkits "")

set(cccl_folders "$ENV{KVRING_CCCL_INCLUDE}")
foreach(toolkit IN LISTS cccl_toolkits)
  list(APPEND cccl_folders "${toolkit}/include/cccl")
endforeach()
list(APPEND cccl_folders "${cccl_cache}/cccl-13.0.85/include")
list(REMOVE_ITEM cccl_folders "")

find_path(KVRING_CCCL_INCLUDE thrust/version.h PATHS ${cccl_folders} NO_DEFAULT_PATH
  DOC "The folder that holds thrust/version.h")
if(NOT KVRING_CCCL_INCLUDE OR NOT EXISTS "${KVRING_CCCL_INCLUDE}/thrust/version.h")
  list(JOIN cccl_folders "\n  " cccl_places)
  message(FATAL_ERROR
    "kvring: no CCCL headers (thrust/version.h). Looked in\n  ${KVRING_CCCL_INCLUDE}\n  ${cccl_places}\n"
    "Get them with\n  python3 cmake/fetch.py cccl\n"
    "or install the CUDA toolkit, or name the folder with -DKVRING_CCCL_INCLUDE=...")
endif()

if(NOT TARGET Cccl::Cccl)
  add_library(Cccl::Cccl INTERFACE IMPORTED)
  target_include_directories(Cccl::Cccl SYSTEM INTERFACE "${KVRING_CCCL_INCLUDE}")
endif()
set(Cccl_FOUND TRUE)
