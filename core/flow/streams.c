#include "flow/streams.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/err.h"

struct mj_streams {
    pthread_mutex_t lock;       /* between adders */
    struct mj_journal *journal; /* borrowed, or NULL */
    _Atomic size_t count;       /* names and bits below it never change */
    uint8_t bits[MJ_STREAMS_MAX];
    char names[MJ_STREAMS_MAX][MJ_STREAM_NAME_MAX + 1];
};

struct mj_streams *mj_streams_new(struct mj_journal *journal)
{
    struct mj_streams *s = mj_calloc(1, sizeof *s);
    s->journal = journal;
    pthread_mutex_init(&s->lock, NULL);
    strcpy(s->names[MJ_STREAM_MAIN], "main");
    atomic_init(&s->count, 1);
    return s;
}

void mj_streams_free(struct mj_streams *s)
{
    if (!s)
        return;
    pthread_mutex_destroy(&s->lock);
    free(s);
}

bool mj_stream_name_valid(struct mj_span name)
{
    if (name.len < 1 || name.len > MJ_STREAM_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!word && (i == 0 || (c != '.' && c != '_' && c != '-')))
            return false;
    }
    return true;
}

size_t mj_streams_count(struct mj_streams *s)
{
    return atomic_load_explicit(&s->count, memory_order_acquire);
}

const char *mj_streams_name(struct mj_streams *s, size_t i) { return s->names[i]; }
unsigned mj_streams_bit(struct mj_streams *s, size_t i) { return s->bits[i]; }

int mj_streams_find(struct mj_streams *s, struct mj_span name)
{
    size_t n = mj_streams_count(s);
    for (size_t i = 0; i < n; i++)
        if (mj_span_is(name, s->names[i]))
            return s->bits[i];
    return MJ_ENOENT;
}

int mj_streams_add(struct mj_streams *s, struct mj_span name)
{
    if (!mj_stream_name_valid(name))
        return MJ_ESYNTAX;
    pthread_mutex_lock(&s->lock);
    int bit = mj_streams_find(s, name);
    if (bit < 0) {
        size_t n = mj_streams_count(s);
        bit = n == MJ_STREAMS_MAX ? MJ_ELIMIT
              : s->journal        ? mj_journal_stream(s->journal, name)
                                  : (int)n;
        if (bit >= 0) {
            memcpy(s->names[n], name.ptr, name.len);
            s->bits[n] = (uint8_t)bit;
            atomic_store_explicit(&s->count, n + 1, memory_order_release);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return bit;
}
