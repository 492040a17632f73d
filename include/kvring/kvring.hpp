// kvring for host compilers: everything that needs neither CUDA nor another library.
#pragma once

#include "kvring/block.hpp"
#include "kvring/cache.hpp"
#include "kvring/chunk.hpp"
#include "kvring/element.hpp"
#include "kvring/kernels/append.hpp"
#include "kvring/kernels/attend_host.hpp"
#include "kvring/kernels/attend_scalar.hpp"
#include "kvring/kernels/batch.hpp"
#include "kvring/models/gemma3.hpp"
#include "kvring/models/gemma4.hpp"
#include "kvring/models/gpt_oss.hpp"
#include "kvring/models/llama.hpp"
#include "kvring/models/mistral.hpp"
#include "kvring/models/qwen3.hpp"
#include "kvring/plan.hpp"
#include "kvring/scratch.hpp"
