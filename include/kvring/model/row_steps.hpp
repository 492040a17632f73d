// RowSteps: what a forward pass does to rows one by one. Norms, rotations, gates, sums.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "kvring/block.hpp"
#include "kvring/buffer.hpp"
#include "kvring/kernels/activation.hpp"
#include "kvring/kernels/norm.hpp"
#include "kvring/kernels/rope.hpp"
#include "kvring/kernels/rows.hpp"
#include "kvring/kernels/softcap.hpp"

namespace kvring {

template <class Model, Backend B>
class RowSteps {
 public:
  explicit RowSteps(B backend) : backend_(std::move(backend)) {}

  /// y = norm(x) * weight, of rows of the model's width.
  void norm(const float* x, const Buffer<float, B>& weight, std::int64_t rows, float* y) const {
    for_each(
        backend_, rows,
        RmsNorm{
            .x = x, .weight = weight.data(), .y = y, .width = Model::hidden, .epsilon = epsilon});
  }
  /// x = norm(x) * weight, of each head.
  void norm_heads(const Buffer<float, B>& weight, std::int64_t heads, std::int64_t dim,
                  float* x) const {
    for_each(backend_, heads,
             RmsNorm{.x = x, .weight = weight.data(), .y = x, .width = dim, .epsilon = epsilon});
  }
  /// x = norm(x), of each head.
  void plain_norm_heads(std::int64_t heads, std::int64_t dim, float* x) const {
    for_each(backend_, heads, PlainRmsNorm{.x = x, .width = dim, .epsilon = epsilon});
  }

  /// By the angles [rows, rotated] of RopeTable; x is [rows, heads, head_dim].
  template <class Kind>
  void rotate(const float* angles, std::int64_t rows, std::int64_t heads, float* x) const {
    for_each(backend_, rows,
             RotateHeads{.table = angles,
                         .x = x,
                         .heads = heads,
                         .head_dim = Kind::heads.dim,
                         .rotated = Kind::rope.rotated});
  }

  /// gate = activation(gate) * up
  void activate(const float* up, float* gate, std::int64_t rows, std::int64_t width,
                std::int64_t up_stride) const {
    using Function =
        std::conditional_t<Model::block.activation == Activation::gelu_tanh, GeluTanh, Silu>;
    for_each(backend_, rows,
             Gate<Function>{.up = up, .gate = gate, .width = width, .up_stride = up_stride});
  }

  /// residual += added, by way of `weight`'s norm where the family has one.
  void add(const float* added, const Buffer<float, B>& weight, std::int64_t rows,
           float* residual) const {
    if constexpr (Model::block.sandwich_norms) {
      for_each(backend_, rows,
               AddRmsNorm{.x = added,
                          .weight = weight.data(),
                          .y = residual,
                          .width = Model::hidden,
                          .epsilon = epsilon});
    } else {
      for_each(backend_, rows, AddRows{.x = added, .y = residual, .width = Model::hidden});
    }
  }

  /// Logits [rows, vocabulary], if the family caps them.
  void softcap(std::int64_t rows, float* logits) const {
    if constexpr (Model::block.final_softcap > 0) {
      for_each(backend_, rows,
               SoftcapRows{.x = logits,
                           .width = Model::vocabulary,
                           .softcap = static_cast<float>(Model::block.final_softcap)});
    }
  }

 private:
  static constexpr float epsilon = static_cast<float>(Model::norm_epsilon);
  B backend_;
};

}  // namespace kvring
