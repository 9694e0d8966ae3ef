/* A router with a journal, streams and scripts, fed with made-up events: what the tests of match,
 * flow and script stand on. Everything is real; only the source is missing. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "cmocka_all.h"

#include "atproto/cbor.h"
#include "atproto/cid.h"
#include "base/err.h"
#include "event/jetstream.h"
#include "script/script.h"

struct fixture {
    struct mj_journal *journal;
    struct mj_streams *streams;
    struct mj_router *router;
    struct mj_scripts *scripts;
    struct mj_view view;
    uint64_t next; /* seq of the first entry not read yet */
    char dir[64];
    unsigned files;
    struct mj_script_cfg cfg;
    struct mj_buf error, out, record;
    struct mj_cid cid;
    int64_t seq;
};

static inline void fixture_open(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->journal = mj_journal_in_memory(8 << 20);
    f->streams = mj_streams_new(f->journal);
    f->router = mj_router_new(f->journal);
    mj_router_set_streams(f->router, f->streams);
    f->scripts = mj_scripts_new(f->router);
    mj_view_init(&f->view, f->journal);
    f->next = f->view.end;
    /* A busy machine must not decide a test; those about budgets set their own. */
    f->cfg.call_us = f->cfg.declare_us = 20000000;
    strcpy(f->dir, "/tmp/moonjet-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
}

static inline void fixture_close(struct fixture *f)
{
    mj_router_free(f->router);
    mj_scripts_free(f->scripts);
    mj_view_deinit(&f->view);
    mj_journal_close(f->journal);
    mj_streams_free(f->streams);
    mj_buf_deinit(&f->error);
    mj_buf_deinit(&f->out);
    mj_buf_deinit(&f->record);
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", f->dir);
    assert_int_equal(system(command), 0);
}

static inline void fixture_file(struct fixture *f, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Loads source text as a script; the files are named s1.lua, s2.lua, … */
static inline int fixture_try(struct fixture *f, const char *source)
{
    char name[32], path[256];
    snprintf(name, sizeof name, "s%u.lua", ++f->files);
    fixture_file(f, name, source);
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    f->error.len = 0;
    return mj_scripts_load(f->scripts, path, &f->cfg, &f->error);
}

static inline void fixture_load(struct fixture *f, const char *source)
{
    if (fixture_try(f, source))
        fail_msg("script does not load: %s", mj_buf_cstr(&f->error));
}

/* Expects the script not to load, with a message that holds the text. */
static inline void fixture_refuse(struct fixture *f, const char *source, const char *expected)
{
    size_t before = mj_scripts_count(f->scripts);
    if (fixture_try(f, source) == 0)
        fail_msg("script loads: %s", source);
    assert_int_equal(mj_scripts_count(f->scripts), before);
    if (!strstr(mj_buf_cstr(&f->error), expected))
        fail_msg("expected \"%s\" in \"%s\"", expected, mj_buf_cstr(&f->error));
}

/* What has been appended for a stream since the last call, one JSON line each. */
static inline const char *fixture_take(struct fixture *f, const char *stream)
{
    int bit = mj_streams_find(f->streams, mj_str(stream));
    assert_true(bit >= 0);
    mj_router_flush(f->router, -1, 0);
    mj_view_refresh(&f->view);
    f->out.len = 0;
    struct mj_run run;
    for (uint64_t seq = f->next; mj_view_run(&f->view, seq, &run); seq += run.count)
        for (size_t i = 0; i < run.count; i++)
            if (run.entries[i].streams >> bit & 1) {
                struct mj_span json = mj_run_json(&run, i);
                mj_buf_put(&f->out, json.ptr, json.len);
                mj_buf_putc(&f->out, '\n');
            }
    return mj_buf_cstr(&f->out);
}

/* Forgets what has been appended so far. */
static inline void fixture_skip(struct fixture *f)
{
    mj_router_flush(f->router, -1, 0);
    mj_view_refresh(&f->view);
    f->next = f->view.end;
}

static inline size_t fixture_count(struct fixture *f, const char *stream)
{
    size_t n = 0;
    for (const char *s = fixture_take(f, stream); *s; s++)
        n += *s == '\n';
    return n;
}

#define FIXTURE_DID "did:plc:ewvi7nxzyoun6zhxrhs64oiz"

static inline struct mj_event fixture_commit(struct fixture *f, const char *collection,
                                             enum mj_op op, struct mj_span record)
{
    struct mj_event ev = {
        .kind = MJ_KIND_COMMIT,
        .op = op,
        .seq = ++f->seq,
        .did = MJ_SPAN(FIXTURE_DID),
        .time = MJ_SPAN("2026-07-04T14:38:08.123Z"),
        .collection = mj_str(collection),
        .rkey = MJ_SPAN("3kgmi5fzxhc2l"),
        .rev = MJ_SPAN("3kgmi5g2bn22l"),
    };
    if (op != MJ_OP_DELETE) {
        mj_cid_of(record, &f->cid);
        ev.cid = mj_span(f->cid.bytes, MJ_CID_LEN);
        ev.record = record;
    }
    return ev;
}

static inline void put_text(struct mj_buf *b, const char *s) { mj_cbor_put_text(b, mj_str(s)); }

/* A post with a text and nothing else. */
static inline void fixture_post(struct fixture *f, const char *text)
{
    f->record.len = 0;
    mj_cbor_put_map(&f->record, 3);
    put_text(&f->record, "text");
    put_text(&f->record, text);
    put_text(&f->record, "$type");
    put_text(&f->record, "app.bsky.feed.post");
    put_text(&f->record, "createdAt");
    put_text(&f->record, "2026-07-04T14:38:08.123Z");
    struct mj_event ev =
        fixture_commit(f, "app.bsky.feed.post", MJ_OP_CREATE, mj_buf_span(&f->record));
    assert_int_equal(mj_router_event(f->router, &ev), 0);
}
