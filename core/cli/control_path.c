#include "cli/control_path.h"

bool mj_control_path(const char *given, const char *data, struct mj_buf *out)
{
    if (given) {
        mj_buf_puts(out, given);
        return true;
    }
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (data && *data)
        mj_buf_printf(out, "%s/control.sock", data);
    else if (runtime && *runtime == '/')
        mj_buf_printf(out, "%s/moonjet.sock", runtime);
    return false;
}
