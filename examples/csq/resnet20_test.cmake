# SPDX-License-Identifier: MIT
# ResNet-20 in few steps: everything runs, going on from finished networks changes nothing, wrong files. Variables: program, scratch.
# Skipped without QUANT_DATA.

if("$ENV{QUANT_DATA}" STREQUAL "")
    message("skipped: QUANT_DATA is not set")
    return()
endif()
file(REMOVE_RECURSE "${scratch}")
file(MAKE_DIRECTORY "${scratch}")
set(short --quiet --images 8 --unseen 8 --bits 3)

include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

run(whole ${short} --passes 2 --results "${scratch}/results.tsv")
foreach(line "one width, nearest" "one width, fitted" "widths by divergence, learned step" "CSQ alone" "CSQ's widths, learned step")
    if(NOT whole MATCHES "${line}")
        message(SEND_ERROR "the table does not mention '${line}':\n${whole}")
    endif()
endforeach()
run(again ${short} --passes 2 --results "${scratch}/results.tsv")
if(NOT again STREQUAL whole)
    message(SEND_ERROR "the table changes when all its networks are finished:\n${whole}\n${again}")
endif()
execute_process(COMMAND "${program}" ${short} --passes 3 --results "${scratch}/results.tsv" RESULT_VARIABLE result
                OUTPUT_QUIET ERROR_VARIABLE err)
if(NOT result EQUAL 3 OR NOT err MATCHES "this experiment")
    message(SEND_ERROR "results of another experiment: exit code ${result}: ${err}")
endif()
