// expect: include <quant/interop/eigen.hpp> to view Eigen objects
// SPDX-License-Identifier: MIT
#include <quant/core.hpp>

#include <Eigen/Core>

Eigen::MatrixXf m(2, 2);

#ifdef QUANT_VALID
auto v = quant::view(m.data(), 2, 2);
#else
auto v = quant::view(m);
#endif
