// expect: the object is a temporary
// SPDX-License-Identifier: MIT
#include <quant/interop/eigen.hpp>

std::size_t size(Eigen::MatrixXf& m) {
#ifdef QUANT_VALID
    return quant::view(m.row(0)).size(); // a block owns nothing
}
#else
    return quant::view(Eigen::MatrixXf(m)).size();
}
#endif
