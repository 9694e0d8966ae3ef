/* moonjet ctl deliveries, inside the running program: on a thread of its own, because counting what
 * waits may go through the index of days. */
#include <pthread.h>
#include <signal.h>

#include "cli/deliveries.h"
#include "cli/run.h"

#define AT_A_TIME 8

/* There is one run per process. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static size_t threads;

struct job {
    struct mj_readers *readers; /* borrowed: run_stop_deliveries() waits for us */
    struct mj_call *call;       /* ours to answer */
    struct mj_strings args;     /* owned texts */
};

static void free_job(struct job *job)
{
    for (size_t i = 0; i < job->args.n; i++)
        free((char *)job->args.v[i]);
    free(job);
}

static void *answer(void *arg)
{
    struct job *job = arg;
    MJ_AUTO_BUF json = {0};
    int status = mj__deliveries(job->readers, &job->args, false, &json);
    mj_call_answer(job->call, status, (struct mj_span){NULL, 0}, mj_buf_span(&json));
    free_job(job);
    pthread_mutex_lock(&lock);
    threads--;
    pthread_cond_signal(&ended);
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* A thread that gets no signals: they are for the loop. */
static bool start(struct job *job)
{
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = pthread_create(&thread, NULL, answer, job) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ok)
        pthread_detach(thread);
    return ok;
}

void run_deliveries_command(struct run *run, struct run_args *args, struct mj_call *call)
{
    MJ_AUTO_BUF word = {0};
    struct job *job = mj_calloc(1, sizeof *job);
    *job = (struct job){.readers = run->readers, .call = call};
    while (job->args.n < MJ_STRINGS_MAX && run_next_arg(args, &word))
        job->args.v[job->args.n++] = mj_strdup(mj_buf_cstr(&word));
    pthread_mutex_lock(&lock);
    bool free_one = threads < AT_A_TIME;
    threads += free_one;
    pthread_mutex_unlock(&lock);
    if (free_one && start(job))
        return;
    if (free_one) {
        pthread_mutex_lock(&lock);
        threads--;
        pthread_mutex_unlock(&lock);
    }
    free_job(job);
    mj_call_fail(call, 503, "too many ask about deliveries at a time; try again");
}

void run_stop_deliveries(void)
{
    pthread_mutex_lock(&lock);
    while (threads)
        pthread_cond_wait(&ended, &lock);
    pthread_mutex_unlock(&lock);
}
