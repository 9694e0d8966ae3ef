/* A spec file while it runs: its VM, its clock for endless loops, and the beds it has made. Shared
 * by spec.c (the runner) and bind_test.c (jet.test); internal to core/script.
 *
 * The spec's own time stands still while a bed works: the script has limits of its own, and only
 * one guard at a time may watch a thread. So every function that enters a bed does it between
 * mj__spec_out() and mj__spec_in(), and raises only behind that. */
#pragma once

#include "script/bed.h"
#include "script/bind.h"
#include "script/spec.h"

#define MJ_SPEC_BEDS_MAX 64 /* open at the same time */

struct mj_spec {
    const struct mj_spec_cfg *cfg; /* borrowed */
    struct mj_guard *guard;        /* owned */
    struct mj_vm *vm;              /* owned */
    int64_t started, left;         /* ns: the guarded stretch in progress, and what is left of it */
    struct mj_bed *beds[MJ_SPEC_BEDS_MAX]; /* owned; NULL where one is closed */
    uint64_t serials[MJ_SPEC_BEDS_MAX];    /* which one it is: places are used again */
    size_t bed_count;                      /* places in use, closed ones between them included */
    uint64_t serial;
    unsigned told; /* tests reported for the files before */
    struct mj_buf scratch, error;
};

/* How long an `it` may take, µs. */
int64_t mj__spec_limit(const struct mj_spec *spec);
/* The spec's clock stops, and runs again. */
void mj__spec_out(struct mj_spec *spec, lua_State *L);
void mj__spec_in(struct mj_spec *spec, lua_State *L);
/* The spec a C function belongs to: its first upvalue. */
static inline struct mj_spec *mj__spec_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}
/* As luaL_error(), with the place in the spec that led here: what calls our functions in C is
 * mostly our own Lua. */
int mj__spec_error(lua_State *L, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Registers functions that have the spec as upvalue into the table at the top. */
void mj__spec_register(lua_State *L, struct mj_spec *spec, const luaL_Reg *functions);
/* Closes all beds but the first n. */
void mj__spec_close(struct mj_spec *spec, size_t n);

/* bind_test.c: the open bed at index 1 [raises]. */
struct mj_bed *mj__spec_bed(lua_State *L, struct mj_spec *spec);
/* Runs what is due in the bed, which is at index 1, until its clock is at `until`, and has the
 * spec's functions answer what it asks for on the way [raises]. */
void mj__spec_run(lua_State *L, struct mj_spec *spec, struct mj_bed *bed, int64_t until);
/* bind_test_event.c: test:send(event), a C function: routes a made-up event, returns it as sent. */
int mj__test_send(lua_State *L);
/* bind_test.c: adds bed (the function) and Test (its methods) to the table at the top. */
void mj_bind_test(lua_State *L, struct mj_spec *spec);
