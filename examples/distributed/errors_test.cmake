# SPDX-License-Identifier: MIT
# A job with a rank that sends nonsense, or that was called wrongly, ends with an error that says so. Variables: launch, program.

# expect(<text on stderr> <arguments>...)
function(expect text)
    execute_process(COMMAND ${launch} "${program}" ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE out ERROR_VARIABLE err)
    list(JOIN ARGN " " arguments)
    if(result EQUAL 0)
        message(SEND_ERROR "distributed ${arguments}: ended without an error")
    elseif(NOT err MATCHES "${text}")
        message(SEND_ERROR "distributed ${arguments}: '${err}' does not mention '${text}'")
    endif()
endfunction()

set(one --job train --epochs 1 --images 192 --schemes orq-5)
expect("distributed: rank 0: the message of rank 1 is not usable: length" ${one} --fault truncated)
expect("distributed: rank 0: the message of rank 1 is not usable: bucket" ${one} --fault foreign)
expect("distributed: rank 0: the message of rank 1 is not usable: table" ${one} --fault damaged)
expect("distributed: rank 0: the parameters of rank 1 are not those of rank 0" ${one} --fault diverged)
expect("unknown scheme 'orc-5'" --schemes orc-5)
expect("'orq-4': levels" --schemes orq-4)
expect("nowhere/digits.csv.gz" --data nowhere)
