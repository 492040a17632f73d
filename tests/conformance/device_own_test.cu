// The conformance suite in a .cu file, as users write it: on host and GPU, for the model that the
// consumer project brings, with heads of 80 values.
#include "consumers/own_model/model.hpp"
#include "device_skips.cuh"
#include "kvring/testing/conformance.hpp"

namespace {

using OwnModel = own::Plan;
KVRING_CONFORMANCE_SUITE(OwnModel);

}  // namespace
