# SPDX-License-Identifier: MIT
# Read by ctest: one test per TEST_CASE of ${program}. In place of Catch2's own discovery, which runs all names after an
# opening bracket together into one test: CMake does not split lists inside brackets, and names are sentences that may hold
# an interval such as [0, 1).
execute_process(COMMAND "${program}" --list-tests --verbosity quiet OUTPUT_VARIABLE names RESULT_VARIABLE failed)
if(failed OR names STREQUAL "")
    # Not built, or dies while it starts: that must not look like a program without tests.
    add_test("quant_tests lists its tests" "${program}" --list-tests)
    set_tests_properties("quant_tests lists its tests" PROPERTIES FAIL_REGULAR_EXPRESSION ".*")
    return()
endif()
string(REPLACE ";" "<semicolon>" names "${names}")
string(REPLACE "[" "<open>" names "${names}")
string(REPLACE "]" "<close>" names "${names}")
string(REPLACE "\\" "<backslash>" names "${names}")
string(REGEX REPLACE "\r?\n" ";" names "${names}")
foreach(name IN LISTS names)
    if(name STREQUAL "")
        continue()
    endif()
    string(REPLACE "<semicolon>" ";" name "${name}")
    string(REPLACE "<close>" "]" name "${name}")
    # The same name as Catch2 wants it on the command line: these characters mean something else there.
    set(spec "${name}")
    string(REPLACE "<backslash>" "\\\\" spec "${spec}")
    string(REPLACE "<open>" "\\[" spec "${spec}")
    string(REPLACE "," "\\," spec "${spec}")
    string(REPLACE "<open>" "[" name "${name}")
    string(REPLACE "<backslash>" "\\" name "${name}")
    add_test("${name}" "${program}" "${spec}")
    # 4: every section of the test was skipped. Catch2 answers 2 when no test matches, so a spec gone wrong fails.
    set_tests_properties("${name}" PROPERTIES SKIP_RETURN_CODE 4)
endforeach()
