# highwater_test(NAME name BUDGET --max-peak 10MiB ... COMMAND program arguments...)
#
# A test that runs a program, and fails if the program does or if it goes over its budget. The verdict is also written as
# JUnit's XML, to NAME.xml in the build directory.
find_program(HIGHWATER highwater REQUIRED)

function(highwater_test)
  cmake_parse_arguments(PARSE_ARGV 0 test "" "NAME" "BUDGET;COMMAND")
  add_test(
    NAME "${test_NAME}"
    COMMAND "${HIGHWATER}" check ${test_BUDGET} --junit "${CMAKE_BINARY_DIR}/${test_NAME}.xml" -- ${test_COMMAND}
  )
endfunction()
