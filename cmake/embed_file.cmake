# Writes the file `in` as the C arrays that Embed.cmake describes.
file(READ ${in} hex HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
file(WRITE ${out} "#include <stddef.h>
extern const unsigned char ${name}[];
extern const size_t ${name}_len;
const unsigned char ${name}[] = {
${bytes}};
const size_t ${name}_len = sizeof ${name};
")
