# SPDX-License-Identifier: MIT
# run(<variable> <arguments>...): stdout of a run that succeeds.
function(run variable)
    execute_process(COMMAND "${program}" ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE out ERROR_VARIABLE err)
    if(NOT result EQUAL 0)
        message(FATAL_ERROR "${program} ${ARGN}: exit code ${result}: ${err}")
    endif()
    set(${variable} "${out}" PARENT_SCOPE)
endfunction()
