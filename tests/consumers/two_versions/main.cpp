// SPDX-License-Identifier: MIT
// One program of three files, each with a version of the library of its own.
#include <cstdio>

int this_version();
int next_minor();
int next_patch_unchecked();

int main() { std::printf("%d %d %d\n", this_version(), next_minor(), next_patch_unchecked()); }
