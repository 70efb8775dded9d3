# SPDX-License-Identifier: MIT
#
# Shared by the scripts that configure, build and test; sourced, after `root` is set.

step() { printf '== %s\n' "$*"; }

# As many compilers as there are processors and 1.5 GB of memory for each.
jobs_here() {
    local n m
    n=$(nproc 2>/dev/null || echo 1)
    m=$(awk '/^MemAvailable:/ { print int($2 / 1572864) }' /proc/meminfo 2>/dev/null || echo "$n")
    [[ ${m:-0} -ge 1 ]] || m=1
    echo $((n < m ? n : m))
}

# Build folders are given with their full path: ctest changes into them.

# configure <build folder> [cmake argument]...: quiet unless it fails.
configure() {
    local build=$1 prefix
    shift
    prefix=$(cat "$root/build/deps/prefix")
    [[ -z $prefix ]] || set -- "-DCMAKE_PREFIX_PATH=$prefix${CMAKE_PREFIX_PATH:+;${CMAKE_PREFIX_PATH//:/;}}" "$@"
    mkdir -p "$build"
    if ! cmake -S "$root" -B "$build" -G Ninja "$@" >"$build/configure.log" 2>&1; then
        cat "$build/configure.log"
        return 1
    fi
}

# build_targets <build folder> [target]...; with keep_going=yes all errors are shown, not only the first.
build_targets() {
    local build=$1
    shift
    cmake --build "$build" --parallel "$(jobs_here)" ${1:+--target "$@"} ${keep_going:+-- -k 0}
}

# run_ctest <build folder> [ctest argument]...: ends with `N passed, N failed[, N skipped]`; fails if a test failed or none ran.
run_ctest() {
    local build=$1 report=$1/ctest.xml code=0 tests failures skipped passed
    shift
    rm -f "$report"
    ctest --test-dir "$build" --timeout 900 --output-on-failure --parallel "$(jobs_here)" --output-junit "$report" "$@" || code=$?
    if [[ ! -e $report ]]; then
        echo "0 passed, 0 failed"
        return 1
    fi
    # The first tests="" failures="" … of the report are the totals.
    count() { sed -n "s/.*[[:space:]]*$1=\"\([0-9]*\)\".*/\1/p" "$report" | head -n 1; }
    tests=$(count tests) failures=$(count failures)
    skipped=$(($(count skipped) + $(count disabled)))
    # A test whose program is missing is reported as skipped too; here it has failed.
    local lost
    lost=$(grep '<skipped message=' "$report" | grep -cvE 'message="(SKIP_|Disabled)' || true)
    failures=$((failures + lost)) skipped=$((skipped - lost))
    passed=$((tests - failures - skipped))
    echo "$passed passed, $failures failed$([[ $skipped == 0 ]] || echo ", $skipped skipped")"
    [[ $failures == 0 && $passed -gt 0 && $code == 0 ]]
}
