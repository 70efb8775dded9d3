// expect: cannot convert|no viable conversion
// SPDX-License-Identifier: MIT
#include <quant/core/code_format.hpp>

int f() {
#ifdef QUANT_VALID
    return quant::validate(quant::int8) ? 1 : 0;
}
#else
    const int ok = quant::validate(quant::int8);
    return ok;
}
#endif
