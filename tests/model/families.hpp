// The tiny models of tests/data: types, files and weights on the host.
#pragma once

#include "tiny_gemma3.hpp"
#include "tiny_types.hpp"
