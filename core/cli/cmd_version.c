/* moonjet version: what a bug report needs. A library that tells its version at run time is asked,
 * because the one loaded counts; the others are told by the build. */
#include <stdio.h>

#include <cbor.h>
#include <cjson/cJSON.h>
#include <libpsl.h>
#include <openssl/crypto.h>
#include <utf8proc.h>
#include <zstd.h>

#include "cli/commands.h"
#include "deliver/version.h"
#include "script/version.h"
#include "source/version.h"
#include "state/version.h"

#define NUMBER_(x) #x
#define NUMBER(x)  NUMBER_(x)

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "unknown"
#endif

static int version_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, NULL, &pos);
    if (r)
        return r;
    printf("moonjet       %s\n", MOONJET_VERSION);
    printf("LuaJIT        %s, %s\n", mj_script_luajit_version(),
           mj_script_hook_checks() ? "hook checks: scripts are compiled and can be stopped"
                                   : "no hook checks: JIT off for user scripts");
    printf("libwebsockets %s\n", mj_source_lws_version());
    printf("libcbor       " NUMBER(CBOR_MAJOR_VERSION) "." NUMBER(CBOR_MINOR_VERSION) "." NUMBER(
        CBOR_PATCH_VERSION) "\n");
    printf("cJSON         %s\n", cJSON_Version());
    printf("libedit       %s\n",
           *MOONJET_EDIT_VERSION ? MOONJET_EDIT_VERSION : "none: lines of the repl are not edited");
    printf("zstd          %s\n", ZSTD_versionString());
    printf("libcurl       %s\n", mj_deliver_curl_version());
    printf("c-ares        %s\n", mj_deliver_ares_version());
    printf("libpsl        %s\n", psl_get_version());
    printf("utf8proc      %s, Unicode %s\n", utf8proc_version(), utf8proc_unicode_version());
    printf("LMDB          %s\n", mj_state_lmdb_version());
    printf("OpenSSL       %s\n", OpenSSL_version(OPENSSL_VERSION_STRING));
    printf("libsecp256k1  %s\n", MOONJET_SECP256K1_VERSION);
    printf("compiler      %s\n", COMPILER);
    printf("build         %s, sanitizers: %s\n", MOONJET_BUILD_TYPE,
           *MOONJET_SANITIZERS ? MOONJET_SANITIZERS : "none");
    return MJ_EXIT_OK;
}

static const struct mj_option options[] = {{0}};

const struct mj_command mj_cmd_version = {
    .name = "version",
    .usage = "",
    .summary = "Versions of everything, and build switches.",
    .options = options,
    .main = version_main,
};
