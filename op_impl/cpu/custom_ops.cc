// The operators for mindspore.ops.Custom(func_type="aot") on a CPU: a block each.
#include <algorithm>

#include "batch_norm.h"
#include "registration.h"

using bn3d::Call;
using bn3d::kSavedRows;
using bn3d::like;
using bn3d::rows_of_bits;
using bn3d::rows_of_doubles;
using bn3d::Volume;

// The four operators: signatures as in python/bn3d/operators.py.

BN3D_OPERATOR(Bn3dReduce, 2, like(1), like(1)) {
  const Volume volume = call.volume(0, "x");
  bn3d::reduce(volume, call.data(0), call.vector(1, "shift", volume), call.vector(2, "sum", volume),
               call.vector(3, "square_sum", volume));
}

BN3D_OPERATOR(Bn3dApply, 4, like(0)) {
  const Volume volume = call.volume(0, "x");
  bn3d::apply(volume, call.data(0), call.vector(1, "mean", volume),
              call.vector(2, "multiplier", volume), call.vector(3, "offset", volume),
              call.same_as(0, 4, "y"));
}

BN3D_OPERATOR(Bn3dGradReduce, 3, like(2), like(2)) {
  const Volume volume = call.volume(1, "x");
  bn3d::grad_reduce(volume, call.same_as(1, 0, "dy"), call.data(1), call.vector(2, "mean", volume),
                    call.vector(3, "sum_dy", volume), call.vector(4, "sum_dy_centered", volume));
}

BN3D_OPERATOR(Bn3dGradApply, 6, like(1)) {
  const Volume volume = call.volume(1, "x");
  bn3d::grad_apply(volume, call.same_as(1, 0, "dy"), call.data(1), call.vector(2, "mean", volume),
                   call.vector(3, "a", volume), call.vector(4, "b", volume),
                   call.vector(5, "c", volume), call.same_as(1, 6, "dx"));
}

// Fused forms of them: signatures as in python/bn3d/backends/native.py.

// Inputs first ... first + 4: gamma, beta, moving_mean, moving_variance, settings (eps, momentum).
static bn3d::Parameters parameters(const Call& call, int first, const Volume& volume) {
  const double* settings = call.bits_of_doubles(first + 4, "settings", {2});
  return {call.vector(first, "gamma", volume),
          call.vector(first + 1, "beta", volume),
          call.vector(first + 2, "moving_mean", volume),
          call.vector(first + 3, "moving_variance", volume),
          settings[0],
          settings[1]};
}

static bn3d::Saved saved(const Call& call, int i, const Volume& volume) {
  const int64_t c = volume.channels;
  double* rows = call.bits_of_doubles(i, "saved", {kSavedRows, c});
  return {rows, rows + c, rows + 2 * c, rows + 3 * c};
}

template <typename Compute>
static void forward(const Call& call, Compute compute) {
  const Volume volume = call.volume(0, "x");
  const bn3d::Parameters given = parameters(call, 1, volume);  // checked before the outputs
  compute(volume, call.data(0), given, call.same_as(0, 6, "y"), saved(call, 7, volume));
}

// Inputs: dy, x, gamma, saved. gamma says what dtype its gradient has: its values may have changed
// since the forward pass. The last output is `saved` as it is, for the gradient of the gradient,
// which MindSpore's operators compute.
template <typename Compute>
static void gradient(const Call& call, Compute compute) {
  const Volume volume = call.volume(1, "x");
  call.vector(2, "gamma", volume);
  double* statistics = call.doubles(7, "statistics", {kSavedRows, volume.channels});
  const bn3d::Saved of_forward = saved(call, 3, volume);
  compute(volume, call.same_as(1, 0, "dy"), call.data(1), of_forward, call.same_as(1, 4, "dx"),
          call.vector(5, "dgamma", volume), call.vector(6, "dbeta", volume));
  std::copy_n(of_forward.mean, kSavedRows * volume.channels, statistics);
}

BN3D_OPERATOR(Bn3dForwardTraining, 6, like(0), rows_of_bits(kSavedRows, 1)) {
  forward(call, bn3d::forward_training);
}

BN3D_OPERATOR(Bn3dGradientTraining, 4, like(1), like(2), like(2), rows_of_doubles(kSavedRows, 2)) {
  gradient(call, bn3d::gradient_training);
}

BN3D_OPERATOR(Bn3dForwardInference, 6, like(0), rows_of_bits(kSavedRows, 1)) {
  forward(call, bn3d::forward_inference);
}

BN3D_OPERATOR(Bn3dGradientInference, 4, like(1), like(2), like(2), rows_of_doubles(kSavedRows, 2)) {
  gradient(call, bn3d::gradient_inference);
}
