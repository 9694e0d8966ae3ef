# mj_embed(TARGET FILE…): compiles text files into the target as `const unsigned char NAME[]` and
# `const size_t NAME_len`, where NAME is mj_ and the file's path with everything odd turned into _.
function(mj_embed target)
  foreach(file ${ARGN})
    string(MAKE_C_IDENTIFIER "mj_${file}" name)
    set(out ${CMAKE_BINARY_DIR}/embedded/${name}.c)
    add_custom_command(
      OUTPUT ${out}
      COMMAND ${CMAKE_COMMAND} -D in=${CMAKE_SOURCE_DIR}/${file} -D out=${out} -D name=${name}
              -P ${CMAKE_SOURCE_DIR}/cmake/embed_file.cmake
      DEPENDS ${CMAKE_SOURCE_DIR}/${file} ${CMAKE_SOURCE_DIR}/cmake/embed_file.cmake
      VERBATIM)
    target_sources(${target} PRIVATE ${out})
  endforeach()
endfunction()
