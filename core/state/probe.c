#include "state/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/log.h"

#define PATIENCE 60 /* seconds; a file that takes longer is taken as it is */

/* Volatile, so that it is read although nobody asks what it says. */
static void touch(MDB_val v)
{
    const volatile unsigned char *p = v.mv_data;
    for (size_t i = 0; i < v.mv_size; i++)
        (void)p[i];
}

/* Touches every byte of the database's entries. As many as it says must be there. */
static bool read_all(MDB_txn *txn, MDB_dbi dbi)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    MDB_stat stat;
    size_t n = 0;
    if (mdb_stat(txn, dbi, &stat) || mdb_cursor_open(txn, dbi, &cursor))
        return false;
    int err = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; !err && n <= stat.ms_entries; n++) {
        touch(key);
        touch(value);
        err = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return err == MDB_NOTFOUND && n == stat.ms_entries;
}

/* The free list is a database, too: it says where the next pages are written. */
static bool is_sound(const char *dir)
{
    const MDB_dbi free_list = 0, entries = 1;
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    if (mdb_env_create(&env) || mdb_env_open(env, dir, MDB_RDONLY | MDB_NOTLS, 0600) ||
        mdb_txn_begin(env, NULL, MDB_RDONLY, &txn))
        return true;
    return !mdb_dbi_open(txn, NULL, 0, &dbi) && dbi == entries && read_all(txn, free_list) &&
           read_all(txn, entries);
}

static void be_quiet(void)
{
    static const int fatal[] = {SIGABRT, SIGSEGV, SIGBUS, SIGALRM};
    const struct rlimit none = {0, 0};
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        dup2(fd, STDERR_FILENO);
    setrlimit(RLIMIT_CORE, &none);
    sigset_t all;
    sigemptyset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
        signal(fatal[i], SIG_DFL);
    alarm(PATIENCE);
}

int mj_disk_probe(const char *dir)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        be_quiet();
        _exit(!is_sound(dir));
    }
    if (child < 0)
        return 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return 0;
    bool late = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
    return (WIFEXITED(status) && !WEXITSTATUS(status)) || late ? 0 : MJ_ESYNTAX;
}

void mj_disk_put_unborn_aside(const char *dir)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    MJ_AUTO_BUF path = {0};
    MJ_AUTO_BUF pages = {0};
    mj_buf_printf(&path, "%s/data.mdb", dir);
    int fd = open(mj_buf_cstr(&path), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    mj_buf_reserve(&pages, 2 * page);
    ssize_t n = pread(fd, pages.ptr, 2 * page, 0);
    close(fd);
    if (n <= 0) /* empty is as good as none */
        return;
    bool unborn = (size_t)n < 2 * page;
    for (size_t i = 0; i < 2 && !unborn; i++) {
        size_t k = 0;
        while (k < page && !pages.ptr[i * page + k])
            k++;
        unborn = k == page;
    }
    if (!unborn)
        return;
    MJ_AUTO_BUF aside = {0};
    mj_buf_printf(&aside, "%s.unborn", mj_buf_cstr(&path));
    if (rename(mj_buf_cstr(&path), mj_buf_cstr(&aside)) == 0)
        mj_log(MJ_LOG_WARN, "state",
               "%s was being made when the power went; a new one is started, the old one is %s",
               mj_buf_cstr(&path), mj_buf_cstr(&aside));
}
