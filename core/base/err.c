#include "base/err.h"

const char *mj_strerror(int err)
{
    switch (err) {
    case 0:
        return "ok";
#define X(name, num, label, text)                                                                  \
    case name:                                                                                     \
        return text;
        MJ_ERRORS(X)
#undef X
    default:
        return "unknown error";
    }
}

const char *mj_errlabel(int err)
{
    switch (err) {
    case 0:
        return "ok";
#define X(name, num, label, text)                                                                  \
    case name:                                                                                     \
        return label;
        MJ_ERRORS(X)
#undef X
    default:
        return "unknown";
    }
}
