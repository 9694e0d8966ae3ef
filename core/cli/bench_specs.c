/* What one test of a spec costs: a script loaded into a VM of its own, an event, a look at what
 * came out. Beside it: the same script loaded and dropped without a spec, by the same clock. */
#include <stdio.h>
#include <unistd.h>

#include "cli/bench.h"
#include "script/script.h"
#include "script/spec.h"

#define TESTS 100

static const char script[] = "jet.from 'app.bsky.feed.post:create'\n"
                             "  :where(function(ev) return ev.text:find('moon', 1, true) end)\n"
                             "  :to(jet.stream 'moon')\n";
static const char spec[] = "describe('moon', function()\n"
                           "  local t\n"
                           "  before_each(function() t = jet.test 'moon' end)\n"
                           "  for i = 1, 100 do\n"
                           "    it('finds moon ' .. i, function()\n"
                           "      t:post { text = 'a moon' }\n"
                           "      assert.equal('a moon', t:out('moon')[1].text)\n"
                           "    end)\n"
                           "  end\n"
                           "end)\n";

static bool put(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return false;
    fputs(text, file);
    return fclose(file) == 0;
}

static void drop(void *ctx, struct mj_span text)
{
    (void)ctx;
    (void)text;
}

static double load_ns(const char *path)
{
    MJ_AUTO_BUF error = {0};
    int64_t start = mj_bench_wall_ns();
    for (int i = 0; i < TESTS; i++) {
        struct mj_streams *streams = mj_streams_new(NULL);
        struct mj_router *router = mj_router_new(NULL);
        mj_router_set_streams(router, streams);
        struct mj_scripts *scripts = mj_scripts_new(router);
        mj_scripts_load(scripts, path, NULL, &error);
        mj_router_free(router);
        mj_scripts_free(scripts);
        mj_streams_free(streams);
    }
    return (double)(mj_bench_wall_ns() - start) / TESTS;
}

void mj_bench_specs(struct mj_bench *b)
{
    char dir[MJ_BENCH_DIR], lua[64], test[64], beside[80];
    if (mj_bench_make_dir(false, dir))
        return;
    snprintf(lua, sizeof lua, "%s/moon.lua", dir);
    snprintf(test, sizeof test, "%s/moon_spec.lua", dir);
    const struct mj_spec_cfg cfg = {.write = drop};
    struct mj_spec_counts counts = {0};
    double ours = 1e18, bare = 1e18;
    for (int i = 0; put(lua, script) && put(test, spec) && i < mj_bench_rounds(b, 10); i++) {
        int64_t start = mj_bench_wall_ns();
        mj_spec_run(test, &cfg, &counts);
        double ns = (double)(mj_bench_wall_ns() - start) / TESTS;
        ours = ns < ours ? ns : ours;
        ns = load_ns(lua);
        bare = ns < bare ? ns : bare;
    }
    unlink(lua);
    unlink(test);
    rmdir(dir);
    if (counts.failed || !counts.passed)
        fprintf(stderr, "moonjet bench: specs: %u of its tests failed\n", counts.failed);
    snprintf(beside, sizeof beside, "script loaded and dropped: %.0f us", bare / 1e3);
    mj_bench_report(b, "specs_us_per_test", ours / 1e3, "us", beside, MJ_GOAL_NONE, 0);
    mj_bench_report(b, "specs_test_vs_load", ours / bare, "x", beside, MJ_GOAL_AT_MOST, 3);
}
