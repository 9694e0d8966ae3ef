# The Debian package: the preset `deb` configures it, cmake/packaging/deb.sh (`make deb`) makes what
# is generated and calls CPack. A plain `cmake --install` never comes here, so it writes nothing to
# /etc or to systemd.
set(packaging ${CMAKE_SOURCE_DIR}/cmake/packaging)
set(generated ${CMAKE_BINARY_DIR}/package)
set(doc /usr/share/doc/moonjet)

include(GNUInstallDirs)
configure_file(${packaging}/moonjet.service ${generated}/moonjet.service @ONLY)
install(FILES ${generated}/moonjet.service DESTINATION /usr/lib/systemd/system)
install(FILES ${packaging}/moonjet.env DESTINATION /etc/moonjet)
install(DIRECTORY DESTINATION /etc/moonjet/scripts)
install(DIRECTORY ${generated}/man1 DESTINATION /usr/share/man)
install(FILES ${packaging}/copyright ${generated}/changelog.gz DESTINATION ${doc})
install(DIRECTORY docs/ DESTINATION ${doc} PATTERN generate.lua EXCLUDE)
install(DIRECTORY plugins DESTINATION ${doc} FILES_MATCHING PATTERN README.md)
# Where README.md lies among the docs, its links are shorter.
file(READ README.md readme)
string(REPLACE "](docs/" "](" readme "${readme}")
string(REPLACE "](LICENSE)" "](copyright)" readme "${readme}")
file(WRITE ${generated}/README.md "${readme}")
install(FILES ${generated}/README.md DESTINATION ${doc})
install(DIRECTORY examples DESTINATION ${doc} PATTERN run.sh EXCLUDE)

# dpkg-shlibdeps sees what the binary is linked with; it sees neither the event loop that
# libwebsockets loads by name nor the certificates that a wss:// source is checked against.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libwebsockets-evlib-ev, ca-certificates")
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${packaging}/conffiles ${packaging}/postinst
                                       ${packaging}/prerm ${packaging}/postrm)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_PACKAGE_NAME moonjet)
set(CPACK_PACKAGE_CONTACT "The Moonjet authors <${MOONJET_MAINTAINER}>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Lua-scriptable event router for the AT Protocol")
set(CPACK_PACKAGE_DESCRIPTION
    "Moonjet reads the firehose of an AT Protocol network (the one under Bluesky),
runs every event through Lua scripts that filter, rewrite and route it, and
serves what is left to any Jetstream client over WebSocket. Events are kept in
a journal on disk, so that clients which return miss nothing. Without a script
it is a plain Jetstream server.
.
The service is neither enabled nor started by installing it: it would read the
whole network's events at once. See /usr/share/doc/moonjet/operations.md.")
set(CPACK_STRIP_FILES ON)
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_SOURCE_DIR}/build)
set(CPACK_SET_DESTDIR ON) # for what lies outside /usr
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ
                                                GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
include(CPack)
