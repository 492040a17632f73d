// The conformance suite on a model of one's own, with kvring's kernels and with one's own.
#include <cstdlib>

#define DOCTEST_CONFIG_IMPLEMENT
#include "kernels.hpp"
#include "kvring/testing/conformance.hpp"
#include "model.hpp"

using Plan = own::Plan;
using Kernels = own::Kernels;
using LooseKernels = own::LooseKernels;

KVRING_CONFORMANCE_SUITE(Plan);
KVRING_CONFORMANCE_SUITE(Plan, Kernels);
KVRING_CONFORMANCE_SUITE(Plan, LooseKernels);

/// OWN_MISTAKE: what our own kernels do wrong.
int main(int argc, char** argv) {
  if (const char* mistake = std::getenv("OWN_MISTAKE")) Kernels::mistake = mistake;
  return doctest::Context(argc, argv).run();
}
