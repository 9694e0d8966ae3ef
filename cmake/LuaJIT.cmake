# Target mj_luajit: the LuaJIT that scripts run in. By default one built here with hook checks, so
# that a runaway script can be stopped while the JIT is on (cmake/luajit.sh says how and why); with
# MOONJET_SYSTEM_LUAJIT, or where the source cannot be had, the installed one. Either way
# MOONJET_LUAJIT_CHECKHOOK says which: at 0, user scripts must run with the JIT off.
add_library(mj_luajit INTERFACE)

if(NOT MOONJET_SYSTEM_LUAJIT)
  execute_process(
    COMMAND sh ${CMAKE_SOURCE_DIR}/cmake/luajit.sh ${CMAKE_SOURCE_DIR}/build/luajit
    OUTPUT_VARIABLE luajit_prefix OUTPUT_STRIP_TRAILING_WHITESPACE
    RESULT_VARIABLE luajit_failed)
endif()

if(MOONJET_SYSTEM_LUAJIT OR luajit_failed)
  pkg_check_modules(LUAJIT REQUIRED IMPORTED_TARGET luajit)
  target_link_libraries(mj_luajit INTERFACE PkgConfig::LUAJIT m) # m: for core/script itself
  target_compile_definitions(mj_luajit INTERFACE MOONJET_LUAJIT_CHECKHOOK=0)
  if(luajit_failed)
    message(WARNING "LuaJIT with hook checks could not be built: using the installed LuaJIT "
                    "${LUAJIT_VERSION}. User scripts will run with the JIT off.")
  else()
    message(STATUS "LuaJIT: the installed ${LUAJIT_VERSION}; user scripts run with the JIT off")
  endif()
else()
  target_include_directories(mj_luajit SYSTEM INTERFACE ${luajit_prefix}/include)
  target_link_libraries(mj_luajit INTERFACE ${luajit_prefix}/lib/libluajit.a m ${CMAKE_DL_LIBS})
  target_compile_definitions(mj_luajit INTERFACE MOONJET_LUAJIT_CHECKHOOK=1)
  get_filename_component(luajit_version ${luajit_prefix} NAME)
  message(STATUS "LuaJIT: ${luajit_version}, built here with hook checks; the JIT stays on")
endif()
