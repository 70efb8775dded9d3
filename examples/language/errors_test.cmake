# SPDX-License-Identifier: MIT
# Wrong options and files that are missing or damaged: the exit code says which, and stderr is one line that says why.
# Variables: program, scratch; the files of QUANT_DATA are damaged too where it is set.

file(REMOVE_RECURSE "${scratch}")
file(MAKE_DIRECTORY "${scratch}")

# expect(<exit code> <text in the message> <arguments>...)
function(expect code text)
    execute_process(COMMAND "${program}" ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE out ERROR_VARIABLE err)
    if(NOT result EQUAL code OR NOT err MATCHES "^language: [^\n]*${text}[^\n]*\n$")
        message(SEND_ERROR "language ${ARGN}: exit code ${result}, expected ${code} and a line about '${text}': ${err}")
    endif()
endfunction()

expect(2 "subcommand")
expect(2 "frobnicate" gru --frobnicate)
expect(2 "averages" gru --averages 1)
expect(2 "averages" rwkv --averages 9)
expect(2 "hidden" gru --hidden 2)
expect(2 "rho" gru --rho -1)
expect(2 "no sample to judge by" rwkv --data nowhere --calibration 8 --samples 8)

expect(3 "no-such-text: No such file" gru --text "${scratch}/no-such-text")
expect(3 "a directory" gru --text "${scratch}")
file(WRITE "${scratch}/short" "Alice")
expect(3 "short: a text of less than" gru --text "${scratch}/short")

set(model tiny-rwkv-4v0-660K-FP32.bin)
expect(3 "nowhere/lm/${model}: No such file" rwkv --data nowhere)
file(WRITE "${scratch}/text/lm/${model}" "Alice was beginning to get very tired of sitting by her sister on the bank")
expect(3 "${model}: not a file of rwkv.cpp" rwkv --data "${scratch}/text")
set(data "$ENV{QUANT_DATA}/lm")
if(NOT EXISTS "${data}/${model}")
    return()
endif()

# damaged(<text in the message> <file> <bytes>): the file keeps its first bytes only.
function(damaged text file bytes)
    set(folder "${scratch}/${file}-${bytes}")
    foreach(name ${model} selfgen_64x256.u8 tinystories_sample.txt)
        file(COPY "${data}/${name}" DESTINATION "${folder}/lm")
    endforeach()
    file(REMOVE "${folder}/lm/${file}")
    execute_process(COMMAND head -c ${bytes} "${data}/${file}" OUTPUT_FILE "${folder}/lm/${file}" COMMAND_ERROR_IS_FATAL ANY)
    expect(3 "${file}: ${text}" rwkv --data "${folder}")
endfunction()

# In the header, in a tensor's header, in its name, in its values, behind it, and one byte short.
foreach(bytes 0 10 30 50 1000 2649148)
    damaged("truncated" ${model} ${bytes})
endforeach()
damaged("tensor '[^']*': missing" ${model} 131126)
damaged("not samples of 256 bytes" selfgen_64x256.u8 16383)
damaged("fewer samples than --samples asks for" selfgen_64x256.u8 2560)
damaged("too short" tinystories_sample.txt 1)
