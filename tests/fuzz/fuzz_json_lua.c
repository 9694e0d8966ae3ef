/* jet.json: what is decoded is encoded as JSON that decodes to the same text again, whatever the
 * input, in a script's VM with little memory. */
#include "base/err.h"
#include "base/json.h"
#include "script/bind.h"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            __builtin_trap();                                                                      \
    } while (0)

struct job {
    struct mj_vm *vm;
    struct mj_span in;
};

static int run(lua_State *L)
{
    struct job *job = lua_touserdata(L, 1);
    struct mj_json_error error;
    struct mj_buf *out = &job->vm->scratch;
    struct mj_span rest = job->in, raw;
    if (!mj_json_to_lua(L, job->vm, job->in, &error)) {
        CHECK(error.text && error.at >= 1 && error.at <= job->in.len + 1);
        return 0;
    }
    /* The other reader of JSON agrees. */
    CHECK(mj_json_take(&rest, &raw) >= 0 && !rest.len);
    out->len = 0;
    mj_json_from_lua(L, job->vm, -1, out);
    lua_pushlstring(L, (const char *)out->ptr, out->len);
    size_t len;
    const char *first = lua_tolstring(L, -1, &len);
    CHECK(mj_json_to_lua(L, job->vm, mj_span(first, len), &error));
    out->len = 0;
    mj_json_from_lua(L, job->vm, -1, out);
    CHECK(mj_span_eq(mj_buf_span(out), mj_span(first, len)));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mj_vm *vm;
    struct mj_buf error = {0};
    if (!vm)
        vm = mj_vm_new("fuzz.lua", 8 << 20, mj_guard_new(), &error);
    CHECK(vm);
    struct job job = {vm, mj_span(data, size)};
    if (lua_cpcall(vm->L, run, &job))
        CHECK(size > 1000); /* no memory */
    lua_settop(vm->L, 0);
    return 0;
}
