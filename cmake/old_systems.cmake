# bn3d_link_for_old_systems(TARGET): TARGET loads on systems as old as manylinux_2_28 names: glibc
# 2.28 and the libstdc++ of GCC 7 (openEuler 20.03), whatever system builds it, with GCC or Clang.
#
# It links to stand-ins of the system's libraries (old_systems.py) which offer what those systems
# have. Of libstdc++ the few symbols that came later are taken from its archive. The rest stays
# shared: MindSpore catches our exceptions and frees our vectors with its libstdc++, and with two of
# them in a process std::uncaught_exceptions() counts wrong.
set(BN3D_OLDEST_SYSTEM GLIBC_2.28 GLIBCXX_3.4.24 CXXABI_1.3.11)

function(bn3d_link_for_old_systems target)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  if(CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64")
    set(loader ld-linux-aarch64.so.1)
  else()
    set(loader ld-linux-x86-64.so.2)
  endif()
  foreach(name libstdc++.so.6 libm.so.6 libpthread.so.0 libc.so.6 ${loader} libstdc++.a
               libc_nonshared.a)
    execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=${name}
                    OUTPUT_VARIABLE file OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
    if(NOT EXISTS "${file}")
      message(FATAL_ERROR "${CMAKE_CXX_COMPILER} has no ${name}: BN3D_OLD_SYSTEMS needs glibc and "
                          "GCC's libstdc++")
    endif()
    list(APPEND files "${file}")
  endforeach()
  list(SUBLIST files 0 5 shared)
  list(GET files 5 archive)
  list(GET files 6 nonshared)

  set(stands "${CMAKE_CURRENT_BINARY_DIR}/old_systems")
  execute_process(COMMAND "${Python3_EXECUTABLE}" "${PROJECT_SOURCE_DIR}/cmake/old_systems.py"
                          --compiler "${CMAKE_CXX_COMPILER}" --output "${stands}"
                          --newest ${BN3D_OLDEST_SYSTEM} -- ${shared}
                  COMMAND_ERROR_IS_FATAL ANY)
  target_link_options(${target} PRIVATE -nodefaultlibs -Wl,--exclude-libs,ALL)
  # Before glibc 2.34 libpthread.so.0 has what libc.so.6 has here, under the same version.
  target_link_libraries(${target} PRIVATE
    "${stands}/libstdc++.so.6" "${archive}" "${stands}/libm.so.6" -lgcc -lgcc_s
    -Wl,--no-as-needed "${stands}/libpthread.so.0" -Wl,--as-needed
    "${stands}/libc.so.6" "${nonshared}" "${stands}/${loader}" -lgcc)
endfunction()
