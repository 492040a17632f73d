// The Llama-like families: Llama and SmolLM2, Qwen3, Mistral.
#pragma once

#include "kvring/models/dense_layer.hpp"
#include "kvring/models/llama.hpp"
#include "kvring/models/mistral.hpp"
#include "kvring/models/qwen3.hpp"
