/* What is in force, as a configuration file says it. */
#include <inttypes.h>

#include "script/config.h"

void mj_lua_quote(struct mj_span text, struct mj_buf *out)
{
    mj_buf_putc(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c == '"' || c == '\\')
            mj_buf_printf(out, "\\%c", c);
        else if (c == '\n')
            mj_buf_puts(out, "\\n");
        else if (c < 0x20 || c == 0x7f)
            mj_buf_printf(out, "\\%03d", c);
        else
            mj_buf_putc(out, (char)c);
    }
    mj_buf_putc(out, '"');
}

void mj_config_size(int64_t bytes, struct mj_buf *out)
{
    static const char units[] = "KMGT";
    int shift = 0;
    for (int i = 4; i >= 1 && !shift; i--)
        if (bytes && bytes % (INT64_C(1) << (10 * i)) == 0)
            shift = i;
    mj_buf_printf(out, "%" PRId64, bytes >> (10 * shift));
    if (shift)
        mj_buf_putc(out, units[shift - 1]);
}

void mj_config_time(int64_t us, struct mj_buf *out)
{
    static const struct {
        int64_t us;
        const char *name;
    } units[] = {{INT64_C(86400000000), "d"},
                 {INT64_C(3600000000), "h"},
                 {60000000, "m"},
                 {1000000, "s"},
                 {1000, "ms"}};
    for (size_t i = 0; i < MJ_COUNT(units); i++)
        if (us >= units[i].us && us % units[i].us == 0) {
            mj_buf_printf(out, "%" PRId64 "%s", us / units[i].us, units[i].name);
            return;
        }
    if (us >= 1000) /* below a millisecond nothing is written */
        mj_buf_printf(out, "%" PRId64 "ms", us / 1000);
    else
        mj_buf_putc(out, '0');
}

static void print_texts(const char *key, const struct mj_strings *list, struct mj_buf *out)
{
    mj_buf_printf(out, "  %s = {", key);
    for (size_t i = 0; i < list->n; i++) {
        mj_buf_puts(out, i ? ", " : " ");
        mj_lua_quote(mj_str(list->v[i]), out);
    }
    mj_buf_puts(out, list->n ? " },\n" : "},\n");
}

void mj_config_print_script(const struct mj_config_script *s, struct mj_buf *out)
{
    const struct mj_script_cfg *cfg = &s->cfg;
    const struct {
        const char *key;
        int64_t us;
    } times[] = {{"call", cfg->call_us}, {"slow", cfg->slow_us}, {"declare", cfg->declare_us}};
    /* From the root, as it would be relative to wherever the file is put. */
    char *path MJ_AUTO_FREE = realpath(s->path, NULL);
    mj_buf_puts(out, "script ");
    mj_lua_quote(mj_str(path ? path : s->path), out);
    mj_buf_puts(out, " {\n");
    if (s->config_lua)
        mj_buf_printf(out, "  config = %s,\n", s->config_lua);
    if (s->has_secrets)
        print_texts("secrets", &s->secrets, out);
    if (s->has_http_allow)
        print_texts("http_allow", &s->http_allow, out);
    if (cfg->memory) {
        mj_buf_puts(out, "  memory = \"");
        mj_config_size((int64_t)cfg->memory, out);
        mj_buf_puts(out, "\",\n");
    }
    for (size_t i = 0; i < MJ_COUNT(times); i++)
        if (times[i].us) {
            mj_buf_printf(out, "  %s = \"", times[i].key);
            mj_config_time(times[i].us, out);
            mj_buf_puts(out, "\",\n");
        }
    if (s->lane == MJ_LANE_OWN)
        mj_buf_printf(out, "  lane = \"own\",\n  lag = \"%s\",\n",
                      s->lag == MJ_LAG_SKIP ? "skip" : "wait");
    if (cfg->on_error)
        mj_buf_printf(out, "  on_error = \"%s\",\n",
                      cfg->on_error == MJ_ON_ERROR_PASS ? "pass" : "drop");
    mj_buf_puts(out, "}\n");
}

void mj_config_print_set(const struct mj_config_set *s, struct mj_buf *out)
{
    mj_buf_puts(out, "set ");
    mj_lua_quote(mj_str(s->name), out);
    mj_buf_puts(out, " {");
    if (s->file) {
        mj_buf_puts(out, " file = ");
        mj_lua_quote(mj_str(s->file), out);
        mj_buf_puts(out, s->member_count ? "," : " ");
    }
    for (size_t i = 0; i < s->member_count; i++) {
        mj_buf_puts(out, i ? ", " : " members = { ");
        mj_lua_quote(mj_str(s->members[i]), out);
    }
    mj_buf_puts(out, s->member_count ? " } }\n" : "}\n");
}
